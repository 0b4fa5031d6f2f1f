// Who may do what: in the pages, and on ubus directly, where only the grants stand between.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { World } from './world.mjs';

const DENIED = -32002;

/** Every call that changes something, or tells what a guest is not to know. */
const FORBIDDEN = [
	[ 'wanbond', 'wan', { name: 'lte', action: 'down' } ],
	[ 'wanbond', 'wan', { name: 'lte', role: 'off' } ],
	[ 'wanbond', 'reload' ],
	[ 'wanbond', 'pairing', { code: 'wanbond1:x' } ],
	[ 'wanbond', 'speedtest' ],
	[ 'wanbond', 'drill', { name: 'lte' } ],
	[ 'wanbond', 'task', { id: 1, cancel: true } ],
	[ 'wanbond', 'support' ],
	[ 'uci', 'get', { config: 'wanbond' } ],
	[ 'uci', 'set', { config: 'wanbond', section: 'globals', values: { enabled: '0' } } ],
	[ 'uci', 'add', { config: 'wanbond', type: 'wan', name: 'x' } ],
	[ 'uci', 'delete', { config: 'wanbond', section: 'lte' } ],
	[ 'uci', 'rename', { config: 'wanbond', section: 'lte', name: 'x' } ],
	[ 'uci', 'order', { config: 'wanbond', sections: [ 'lte', 'fibre' ] } ],
	[ 'uci', 'apply', { rollback: false } ],
	[ 'uci', 'commit', { config: 'wanbond' } ],
	[ 'log', 'read', {} ],
];

describe('access', { timeout: 120000 }, () => {
	let world;

	before(async () => {
		world = await World.start();
		await world.bond();
	});
	after(() => world?.end());

	const isRefused = ({ error, result }) => error?.code == DENIED || result?.[0] == 6;

	it('is nothing without a login', async () => {
		const nobody = '0'.repeat(32);
		for (const [ object, method, args ] of [ [ 'wanbond', 'status' ], [ 'wanbond', 'events' ], ...FORBIDDEN ])
			assert.ok(isRefused(await world.call(nobody, object, method, args)), `${object} ${method}`);
	});

	it('is nothing with a wrong password, or a made-up session', async () => {
		const { result } = await world.call('0'.repeat(32), 'session', 'login', { username: 'root', password: 'wrong' });
		assert.deepEqual(result, [ 6 ]);
		assert.equal((await world.call('f'.repeat(32), 'wanbond', 'status')).error.code, DENIED);
	});

	it('lets a guest see the status, and change nothing on ubus', async () => {
		const guest = await world.session('guest');
		const { result: [ code, status ] } = await world.call(guest, 'wanbond', 'status');
		assert.equal(code, 0);
		assert.equal(status.wans.length, 2);
		const before = world.router.configuration;
		for (const [ object, method, args ] of FORBIDDEN)
			assert.ok(isRefused(await world.call(guest, object, method, args)), `${object} ${method}`);
		assert.equal(world.router.configuration, before);
		const after = await world.status();
		assert.deepEqual(after.wans.map(({ role, state }) => [ role, state ]), [ [ 'bond', 'up' ], [ 'bond', 'up' ] ]);
	});

	it('does not tell a guest the pairing code', async () => {
		const [ , code ] = /option code '(.*)'/.exec(world.router.configuration);
		const guest = await world.session('guest');
		for (const method of [ 'status', 'events', 'diagnose' ]) {
			const answer = await world.call(guest, 'wanbond', method);
			assert.ok(answer.result, `${method}: ${JSON.stringify(answer)}`);
			assert.ok(!JSON.stringify(answer).includes(code.slice(9, 40)), method);
		}
	});

	it('gives a guest a Status page without anything to press', async () => {
		const page = await world.login('guest');
		await world.open(page, 'status');
		const card = page.getByRole('article', { name: 'fibre' });
		await card.getByText('Round trip').waitFor();
		assert.equal(await card.getByRole('button').count(), 0);
		assert.equal(await card.getByRole('combobox').count(), 0);
		assert.equal(await page.getByRole('button', { name: 'Save' }).count(), 0);
		await page.context().close();
		assert.deepEqual(world.troubles, []);
	});

	it('lets the owner do all of it', async () => {
		const root = await world.session('root');
		for (const [ role, wanted ] of [ [ 'backup', 'backup' ], [ 'bond', 'bond' ] ]) {
			const { result } = await world.call(root, 'wanbond', 'wan', { name: 'lte', action: 'role', role });
			assert.equal(result[0], 0);
			await world.until(`lte is ${wanted}`, ({ wans }) => wans[1].role == wanted);
		}
		const { result: [ code, { values } ] } = await world.call(root, 'uci', 'get', { config: 'wanbond' });
		assert.equal(code, 0);
		assert.equal(values.lte.interface, 'wwan');
	});

	it('ends when the session does', async () => {
		const root = await world.session('root');
		world.router.sessions.end(root);
		assert.equal((await world.call(root, 'wanbond', 'status')).error.code, DENIED);
	});
});
