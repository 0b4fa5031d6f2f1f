import assert from 'node:assert/strict';
import { test } from 'node:test';
import { load } from './load.mjs';

const graph = load('wanbond.graph');

test('scales end at round numbers that everything fits below', () => {
	for (const [value, top] of [[0, 100], [100, 100], [101, 150], [5.3e7, 6e7], [8.1e7, 1e8], [0.3, 100]])
		assert.equal(graph.nice(value, 100), top);
	assert.equal(graph.nice(0.1 + 0.2, 0.01).toFixed(3), '0.300');
});

test('stacks stand on each other, what is unknown is nothing', () => {
	const bands = graph.stack([[1, 2, null], [3, null, 5]]);
	assert.deepEqual(bands, [[[0, 1], [0, 2], [0, 0]], [[1, 4], [2, 2], [0, 5]]]);
	assert.equal(graph.top(bands), 5);
	assert.equal(graph.top(graph.stack([])), 0);
});

test('thinning keeps means, and does not make up what is not known', () => {
	const { t, columns } = graph.thin([1, 2, 3, 4, 5], [[1, 3, 5, null, 9], [null, null, 4, 4, null]], 3);
	assert.deepEqual(t, [2, 4, 5]);
	assert.deepEqual(columns, [[2, 5, 9], [null, 4, null]]);
	assert.deepEqual(graph.thin([1, 2], [[1, 2]], 3), { t: [1, 2], columns: [[1, 2]] });
});

test('lines have gaps where nothing is known', () => {
	const y = (v) => v;
	assert.equal(graph.line([0, 1, 2, 3], [5, null, 6, 7], y), 'M0.0 5.0L0.0 5.0M2.0 6.0L2.0 6.0L3.0 7.0');
	assert.equal(graph.area([0], [[0, 1]], y), '');
	assert.equal(graph.area([0, 10], [[0, 1], [0, 2]], y), 'M0.0 1.0L10.0 2.0L10.0 0.0L0.0 0.0Z');
});

test('ticks of time are at round times of the day here', () => {
	const from = new Date(2026, 10, 21, 16, 52, 7).getTime();
	const ticks = graph.timeTicks(from, from + 120e3, 4, (at) => new Date(at).getSeconds());
	assert.deepEqual(ticks.map((tick) => tick.text), [30, 0, 30, 0]);
	const days = graph.timeTicks(from, from + 7 * 86400e3, 8, (at) => new Date(at).getHours());
	assert.equal(days.length, 7);
	assert.ok(days.every((tick) => tick.text <= 1 || tick.text === 23), 'midnight, give or take a change of the clock');
});

test('events of one moment are one mark, as grave as the gravest', () => {
	const events = [{ at_s: 1, level: 'info' }, { at_s: 2, level: 'warning' }, { at_s: 9, level: 'info' }];
	const marks = graph.marks(events, (t) => t * 3, 7);
	assert.deepEqual(marks.map(({ x, grave, events: of }) => [x, grave, of.length]), [[3, true, 2], [27, false, 1]]);
	assert.deepEqual(graph.marks([], (t) => t, 7), []);
});
