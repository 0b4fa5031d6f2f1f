import assert from 'node:assert/strict';
import { test } from 'node:test';
import { load } from './load.mjs';

/** The application's view of the daemon, with what LuCI's rpc would hand over. */
const answering = (answer) => load('wanbond.api', { rpc: { getStatusText: (code) => `code ${code}`, declare: () => () => Promise.resolve().then(answer) } });
const failure = async (answer) => {
	const api = answering(answer);
	const error = await api.wan('lte', 'up').then(() => assert.fail('it went well'), (e) => e);
	assert.ok(error instanceof api.Failure, String(error));
	return [error.kind, error.message];
};
const thrown = (message) => () => { throw new Error(message); };

test('documents pass, and an answer without one', async () => {
	assert.deepEqual(await answering(() => ({ wans: [] })).status(), { wans: [] });
	assert.deepEqual(await answering(() => 0).wan('lte', 'up'), {});
	// A task has a code of its own nowhere; a result may have any two fields.
	assert.deepEqual(await answering(() => ({ code: 1, message: 'x' })).status(), { code: 1, message: 'x' });
});

test('what went wrong is told apart', async () => {
	assert.deepEqual((await failure(() => ({ code: 'unknown_wan', message: "no WAN 'x'" }))), ['refused', "no WAN 'x'"]);
	assert.equal((await failure(() => 3))[0], 'newer');
	assert.equal((await failure(() => 4))[0], 'daemon');
	assert.equal((await failure(() => 6))[0], 'denied');
	assert.equal((await failure(() => 7))[0], 'network');
	assert.match((await failure(() => 9))[1], /code 9/);
	assert.equal((await failure(thrown('RPC call to wanbond/wan failed with error -32000: Object not found')))[0], 'daemon');
	assert.equal((await failure(thrown('RPC call to wanbond/wan failed with error -32002: Access denied')))[0], 'denied');
	assert.equal((await failure(thrown('XHR request failed')))[0], 'network');
	assert.equal((await failure(() => 'nonsense'))[0], 'network');
});
