import assert from 'node:assert/strict';
import { test } from 'node:test';
import { load } from './load.mjs';

const { create } = load('wanbond.series');
const history = (name, until_s, rx_bps, step_s = 1) => ({ name, step_s, until_s, rx_bps, tx_bps: rx_bps, rtt_ms: rx_bps.map(() => null), loss_percent: [] });
const status = (uptime_s, ...wans) => ({ uptime_s, wans: wans.map(([name, rx_bps]) => ({ name, rx_bps, tx_bps: 0, rtt_ms: 9 })) });

test('histories that were asked for one after the other share one axis', () => {
	const past = create(100);
	past.load([history('a', 20, [1, 2, 3]), history('b', 21, [7, 8])]);
	assert.deepEqual(past.t, [18, 19, 20]);
	assert.deepEqual(past.column('a', 'rx_bps'), [1, 2, 3]);
	assert.deepEqual(past.column('b', 'rx_bps'), [null, null, 7]);
	assert.deepEqual(past.column('b', 'loss_percent'), [null, null, null]);
	assert.deepEqual(past.column('c', 'rx_bps'), [null, null, null]);
});

test('statuses continue them, also with WANs that come and go', () => {
	const past = create(100);
	past.load([history('a', 20, [1, 2])]);
	past.append(status(22, ['a', 3]));
	past.append(status(24, ['b', 4]));
	past.append(status(24, ['b', 5]));
	assert.deepEqual(past.t, [19, 20, 22, 24]);
	assert.deepEqual(past.column('a', 'rx_bps'), [1, 2, 3, null]);
	assert.deepEqual(past.column('b', 'rx_bps'), [null, null, null, 4]);
	assert.deepEqual(past.column('b', 'rtt_ms'), [null, null, null, 9]);
});

test('a restart of the daemon or a long gap begins anew', () => {
	const past = create(100);
	assert.equal(past.continuedBy(status(5)), false);
	past.load([history('a', 500, [1, 2])]);
	assert.equal(past.continuedBy(status(502)), true);
	assert.equal(past.continuedBy(status(3)), false);
	assert.equal(past.continuedBy(status(900)), false);
});

test('a day of polling keeps no more than the span', () => {
	const past = create(120);
	for (let second = 2; second <= 86_400; second += 2)
		past.append(status(second, ['a', second]));
	assert.ok(past.t.length <= 62, String(past.t.length));
	assert.equal(past.column('a', 'rx_bps').length, past.t.length);
	assert.equal(past.column('a', 'rx_bps').at(-1), 86_400);
});

test('whoever asks more often sees the newest, and keeps no more', () => {
	const past = create(100);
	past.load([history('a', 20, [1, 2])]);
	for (let now = 20.01; now < 120; now += 0.01)
		past.append(status(now, ['a', now], ...now > 60 ? [['b', 1]] : []));
	assert.ok(past.t.length > 100 && past.t.length <= 204, String(past.t.length));
	for (const name of ['a', 'b'])
		assert.equal(past.column(name, 'rx_bps').length, past.t.length);
	assert.deepEqual(past.column('a', 'rx_bps').slice(2), past.t.slice(2));
	assert.ok(past.t.at(-1) > 119.98);
	assert.ok(past.t.every((t, row) => row < 2 || t - past.t[row - 2] >= 1), 'no step has more than two points');
});

test('nothing usable is an empty series', () => {
	const past = create(120);
	past.load([null, {}, { step_s: 0, rx_bps: [] }]);
	assert.deepEqual(past.t, []);
});
