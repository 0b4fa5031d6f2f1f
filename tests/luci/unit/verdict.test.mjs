import assert from 'node:assert/strict';
import { test } from 'node:test';
import { load } from './load.mjs';

const verdict = load('wanbond.verdict');
const wan = (name, more) => ({ name, state: 'up', role: 'bond', why: '', rx_bps: 3e6, tx_bps: 1e6, ...more });
const status = (more) => ({ enabled: true, when_server_down: 'direct', server: { name: 'vps', state: 'connected' }, wans: [wan('fibre'), wan('lte')], ...more });

test('all is well', () => {
	const said = verdict.of(status());
	assert.deepEqual([said.state, said.tone, said.title], ['fine', 'good', 'All is well. 2 links work together.']);
	assert.deepEqual(verdict.rates(status()), { rx: 6e6, tx: 2e6 });
	assert.match(verdict.of(status({ wans: [wan('fibre')] })).detail, /second link/);
});

test('what is not set up or off is not called broken', () => {
	assert.equal(verdict.of({ enabled: false, wans: [], server: null }).state, 'empty');
	assert.equal(verdict.of(status({ enabled: false })).state, 'off');
	assert.equal(verdict.of(status({ server: null })).state, 'empty');
	assert.equal(verdict.of(status({ wans: [] })).state, 'empty');
	// A document of a daemon that knows less.
	assert.equal(verdict.of({}).state, 'empty');
});

test('every state of the server has its words', () => {
	const words = { connecting: /Connecting/, unreachable: /does not answer/, unknown_router: /does not know/, wrong_key: /another key/, unresolved_name: /no address/, version_mismatch: /another version/, no_wan: /No link works/, teleporting: /does not answer/ };
	for (const [state, expected] of Object.entries(words)) {
		const said = verdict.of(status({ server: { name: 'vps', state } }));
		assert.match(said.title, expected);
		assert.equal(said.state, state === 'connecting' ? 'connecting' : 'server-down');
	}
	const server = { name: 'vps', state: 'unreachable' };
	assert.match(verdict.of(status({ server })).detail, /directly/);
	assert.match(verdict.of(status({ server, when_server_down: 'block' })).detail, /nothing leaves/);
});

test('the first trouble among the links is named, with its reason', () => {
	const down = wan('lte', { state: 'down', why: 'wwan0 has no carrier' });
	const said = verdict.of(status({ wans: [wan('fibre'), down] }));
	assert.deepEqual([said.tone, said.title, said.detail], ['warn', 'lte is down; the others carry everything.', 'wwan0 has no carrier']);
	assert.match(verdict.of(status({ wans: [wan('fibre'), down, wan('dsl', { state: 'probing' })] })).title, /^lte, dsl are down/);
	assert.match(verdict.of(status({ wans: [wan('fibre'), wan('lte', { state: 'degraded' })] })).title, /bad line/);
	assert.match(verdict.of(status({ wans: [wan('fibre'), wan('lte', { quota: { exhausted: true } })] })).title, /quota of lte/);
	// Who paused or switched off a link knows.
	assert.equal(verdict.of(status({ wans: [wan('fibre'), wan('lte', { state: 'off' })] })).state, 'fine');
	assert.equal(verdict.of(status({ wans: [wan('fibre'), wan('lte', { role: 'off', state: 'down' })] })).state, 'fine');
	assert.equal(verdict.of(status({ wans: [wan('fibre'), wan('lte', { state: 'paused' })] })).state, 'fine');
	assert.match(verdict.of(status({ wans: [wan('fibre', { state: 'off' }), wan('lte', { state: 'paused' })] })).title, /paused/);
	assert.match(verdict.of(status({ wans: [wan('lte', { role: 'off', state: 'off' })] })).title, /switched off/);
});
