// A day of looking at the Status page, in a minute: neither the page nor the daemon may grow by it, and what
// an answer costs the router.
//
// The page's polls follow each other at once, each with a real call to the real daemon. A day is 43200 of
// them; LUCI_POLLS=43200 does them all.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { World } from './world.mjs';

/** Polls of a day, one every two seconds. */
const DAY = 43200;
const POLLS = Number(process.env.LUCI_POLLS ?? 600);
const MIB = 1024 * 1024;

describe('a day on the Status page', { timeout: 600000 + POLLS * 100 }, () => {
	let world;

	before(async () => {
		world = await World.start();
		await world.bond();
	});
	after(() => world?.end());

	it('costs the daemon no memory, and little time', async () => {
		/** Four askers at a time, each with the next call once the last was answered. */
		const call = (times) => Promise.all(Array.from({ length: 4 }, async () => {
			for (let left = times / 4; left > 0; left--)
				await world.status();
		}));
		await call(2000);
		const from = await world.lab.do('usage');
		await call(DAY);
		const to = await world.lab.do('usage');
		const each = (to.cpu_s - from.cpu_s) / DAY * 1000, grown = (to.rss - from.rss) / MIB;
		console.log(`${DAY} status calls: ${each.toFixed(3)} ms of processor each, the daemon grew by ${grown.toFixed(2)} MiB to ${(to.rss / MIB).toFixed(1)} MiB`);
		// All that the daemon does meanwhile is counted as well; a router's core may be ten times slower.
		assert.ok(each < 5, `${each} ms`);
		assert.ok(grown < 4, `${grown} MiB`);
	});

	it('costs the page no memory', async () => {
		const page = await world.login();
		await world.open(page, 'status');
		// From here on time goes as fast as the router answers.
		await page.evaluate(() => L.Poll.stop());
		const calls = () => world.router.rpc.calls.filter((name) => name == 'wanbond.status').length;
		const poll = async (times) => {
			for (let left = times; left > 0; left -= 50)
				await page.evaluate(async () => {
					for (let seconds = 0; seconds < 100; seconds++)
						await L.Poll.step();
				});
		};
		const devtools = await page.context().newCDPSession(page);
		const used = async () => {
			await devtools.send('HeapProfiler.collectGarbage');
			const { usedSize } = await devtools.send('Runtime.getHeapUsage');
			const { nodes, jsEventListeners } = await devtools.send('Memory.getDOMCounters');
			return { heap: usedSize, nodes, listeners: jsEventListeners };
		};
		// The graph is full and everything was compiled once.
		await poll(300);
		const before = await used(), asked = calls();
		await poll(POLLS);
		const after = await used();
		console.log(`${calls() - asked} polls: heap ${(before.heap / MIB).toFixed(2)} to ${(after.heap / MIB).toFixed(2)} MiB, ` +
			`nodes ${before.nodes} to ${after.nodes}, listeners ${before.listeners} to ${after.listeners}`);
		assert.ok(calls() - asked >= POLLS * 0.9, `${calls() - asked} polls of ${POLLS}`);
		assert.ok(after.heap - before.heap < 1 * MIB, 'the heap grew');
		assert.ok(after.nodes - before.nodes < 500, 'nodes are left behind');
		assert.ok(after.listeners - before.listeners < 100, 'listeners are left behind');
		assert.deepEqual(world.troubles, []);
	});
});
