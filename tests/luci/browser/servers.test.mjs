// Two real servers: which one is used, what the pages say of the other, and what they say once it has taken over.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { World } from './world.mjs';

describe('several servers', { timeout: 240000 }, () => {
	let world, page;
	const row = (name) => page.locator(`[data-section-id=${name}]`);

	before(async () => {
		world = await World.start();
		const code = await world.lab.do('spare_start');
		await world.bond(`config server 'spare'\n\toption code '${code}'\n`);
		page = await world.login();
	});
	after(() => world?.end());

	it('are shown with what each is for', async () => {
		await world.open(page, 'servers');
		await row('vps').getByText('connected').waitFor();
		await row('vps').getByText('in use').waitFor();
		await row('spare').getByText('standing by').waitFor();
		await row('spare').getByText(/\d\s*ms$/).waitFor();
		assert.equal(await row('spare').getByText('in use').count(), 0);
	});

	it('take each other\'s place when one is gone, which both pages tell', async () => {
		const status = await world.login();
		await world.open(status, 'status');
		await status.getByText(/Server vps/).waitFor();
		await world.lab.do('server_stop');
		await world.until('spare is used', ({ server }) => server.name == 'spare' && server.state == 'connected');
		await row('spare').getByText('in use').waitFor();
		await row('vps').getByText('does not answer').waitFor();
		await status.getByText(/Server spare/).waitFor();
		await status.getByText('All is well. 2 links work together.').first().waitFor();
		await status.locator('.wb-timeline').getByText(/spare is used instead of vps/).waitFor();
		assert.ok((await world.lab.do('download', { bytes: 2_000_000 })).complete);
		await status.context().close();
	});

	it('have made no mistake that nobody saw', () => assert.deepEqual(world.troubles, []));
});
