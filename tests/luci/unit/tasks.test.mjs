import assert from 'node:assert/strict';
import { test } from 'node:test';
import { load } from './load.mjs';

// No waiting between two questions.
globalThis.window = { setTimeout: (then) => setImmediate(then) };

class Failure extends Error {
	constructor(kind, message) {
		super(message);
		this.kind = kind;
	}
}

/** Tasks over a daemon that answers each question by the next of `answers`. */
function over(answers, asked = []) {
	const task = (id, cancel) => {
		asked.push([id, cancel]);
		const next = answers.shift();
		return next instanceof Error ? Promise.reject(next) : Promise.resolve(next);
	};
	return load('wanbond.tasks', { ui: {}, 'wanbond.api': { Failure, task } });
}
const running = (progress) => ({ id: 3, state: 'running', progress });
const done = { id: 3, state: 'done', result: { down_bps: 5 } };

test('a task is followed to its result', async () => {
	const told = [];
	const result = await over([running(0.5), done]).run(() => running(0), (task) => told.push(task.progress));
	assert.deepEqual([result, told], [{ down_bps: 5 }, [0, 0.5]]);
});

test('what fails says why', async () => {
	const failed = { id: 3, state: 'failed', error: 'the server does not answer' };
	await assert.rejects(over([failed]).run(() => running(0)), /the server does not answer/);
	await assert.rejects(over([]).run(() => Promise.reject(new Failure('refused', 'a drill is running'))), /a drill is running/);
});

test('silence is waited out for a while, as a drill may cut the very link', async () => {
	const silent = () => new Failure('network', 'no answer');
	assert.deepEqual(await over([silent(), silent(), done]).run(() => running(0)), { down_bps: 5 });
	await assert.rejects(over(Array.from({ length: 50 }, silent)).run(() => running(0)), /no answer/);
	await assert.rejects(over([new Failure('daemon', 'it is gone'), done]).run(() => running(0)), /it is gone/);
});

test('what nobody waits for is cancelled', async () => {
	const asked = [];
	assert.equal(await over([{}], asked).run(() => running(0), null, () => false), null);
	assert.deepEqual(asked, [[3, true]]);
});
