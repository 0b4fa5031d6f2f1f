// The Status page in front of the real daemon: what it shows, what its buttons do, and what it says when
// something is missing.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { World } from './world.mjs';

describe('the Status page', { timeout: 240000 }, () => {
	let world, page;
	const card = (name) => page.getByRole('article', { name });

	before(async () => {
		world = await World.start();
		await world.bond();
		page = await world.login();
		await world.open(page, 'status');
	});
	after(() => world?.end());

	it('shows the bond and each WAN as the daemon tells it', async () => {
		await card('fibre').getByText('Round trip').waitFor();
		await card('lte').getByText('Round trip').waitFor();
		const status = await world.status();
		assert.match(await page.locator('#view').innerText(), /All is well\. 2 links work together/);
		assert.ok((await page.locator('#view').innerText()).includes(status.server.name));
	});

	it('draws what is downloaded, in place', async () => {
		const kept = await card('fibre').elementHandle();
		const download = world.lab.do('download', { bytes: 30_000_000 });
		await page.waitForFunction(() => /\d [kM]bit\/s/.test(document.querySelector('.wb-rates')?.innerText ?? ''));
		assert.deepEqual((await download).complete, true);
		assert.ok(await kept.evaluate((node) => node.isConnected), 'the card is still the same node');
		await page.locator('svg.wb-chart path').first().waitFor({ state: 'attached' });
	});

	it('gives a WAN another role', async () => {
		await card('lte').getByLabel('Role of lte').selectOption('backup');
		await world.until('lte is backup', ({ wans }) => wans[1].role == 'backup');
		await card('lte').getByLabel('Role of lte').selectOption('bond');
		await world.until('lte bonds', ({ wans }) => wans[1].role == 'bond');
	});

	it('pauses a WAN and resumes it', async () => {
		await card('lte').getByRole('button', { name: 'Pause lte' }).click();
		await world.until('lte is paused', ({ wans }) => wans[1].state == 'paused' && wans[1].role == 'bond');
		await card('lte').getByText('paused', { exact: true }).waitFor();
		await card('lte').getByRole('button', { name: 'Resume lte' }).click();
		await world.until('lte is back', ({ wans }) => wans[1].state == 'up');
		await card('lte').getByRole('button', { name: 'Pause lte' }).waitFor();
	});

	it('is used by keyboard alone, and shows where one is', async () => {
		/** What has the focus; without a name if nothing has, as between a page's end and its beginning. */
		const focused = () => page.evaluate(() => {
			const at = document.activeElement, { outlineStyle, boxShadow } = getComputedStyle(at);
			return { name: at == document.body ? '' : at.getAttribute('aria-label') ?? at.innerText, shown: outlineStyle != 'none' || boxShadow != 'none' };
		});
		await page.evaluate(() => document.activeElement.blur());
		const way = [];
		for (let steps = 0; steps < 80 && way.at(-1)?.name != 'Pause lte'; steps++) {
			await page.keyboard.press('Tab');
			way.push(await focused());
		}
		const names = way.map(({ name }) => name);
		for (const name of [ 'Role of fibre', 'Pause fibre', 'Try a cut of fibre', 'Role of lte', 'Pause lte' ])
			assert.ok(names.includes(name), `${name} is not among ${names.join(', ')}`);
		assert.deepEqual(way.filter(({ name, shown }) => name && !shown), []);
		await page.keyboard.press('Enter');
		await world.until('lte is paused', ({ wans }) => wans[1].state == 'paused');
		await card('lte').getByRole('button', { name: 'Resume lte' }).waitFor();
		await page.keyboard.press('Space');
		await world.until('lte is back', ({ wans }) => wans[1].state == 'up');
		await card('lte').getByRole('button', { name: 'Pause lte' }).waitFor();
		assert.equal((await focused()).name, 'Pause lte', 'where one was, one stays');
	});

	it('tells why a WAN is down, and when it is back', async () => {
		await world.lab.do('cut', { wan: 'lte' });
		await page.getByText('lte is down; the others carry everything.').first().waitFor();
		await world.lab.do('restore', { wan: 'lte' });
		await page.getByText('All is well. 2 links work together.').first().waitFor();
	});

	it('says when the server is down, and goes on when it is back', async () => {
		await world.lab.do('server_stop');
		await page.getByText('The server vps does not answer.').first().waitFor();
		await world.lab.do('server_start');
		await page.getByText('All is well. 2 links work together.').first().waitFor();
	});

	it('says when the daemon is not running, and goes on when it is', async () => {
		await world.lab.do('stop');
		await page.getByText('The wanbond service is not running.').first().waitFor();
		await world.lab.do('start');
		await page.getByText('All is well. 2 links work together.').first().waitFor();
	});

	it('says when ubusd is gone, which the bond does not need, and goes on when it is back', async () => {
		await world.lab.do('bus_stop');
		await page.getByText('The wanbond service is not running.').first().waitFor();
		assert.ok((await world.lab.do('download', { bytes: 1_000_000 })).complete);
		await world.lab.do('bus_start');
		await page.getByText('All is well. 2 links work together.').first().waitFor();
		await card('lte').getByRole('button', { name: 'Pause lte' }).click();
		await world.until('lte is paused', ({ wans }) => wans[1].state == 'paused');
		await card('lte').getByRole('button', { name: 'Resume lte' }).click();
		await world.until('lte is back', ({ wans }) => wans[1].state == 'up');
	});

	it('tells a link that is off by its role from one that is paused', async () => {
		const before = world.router.configuration;
		world.router.configure(before.replace("config wan 'lte'\n", "config wan 'lte'\n\toption role 'off'\n"));
		await world.lab.do('reload');
		await world.until('lte is off', ({ wans }) => wans[1].state == 'off' && wans[1].role == 'off');
		await card('lte').getByText('switched off', { exact: true }).waitFor();
		// Until the next start, whatever its configured role.
		await card('lte').getByRole('button', { name: 'Use lte' }).click();
		await world.until('lte is used', ({ wans }) => wans[1].state == 'up' && wans[1].role == 'bond');
		world.router.configure(before);
		await world.lab.do('reload');
		await world.until('lte has its role', ({ wans }) => wans[1].state == 'up' && wans[1].role == 'bond');
		await card('lte').getByRole('button', { name: 'Pause lte' }).waitFor();
	});

	it('asks for a new login once the session is over', async () => {
		world.router.sessions.endAll();
		await page.getByRole('dialog').getByRole('heading', { name: 'Session expired' }).waitFor();
		await page.getByRole('button', { name: 'Log in' }).click();
		await page.getByLabel('Password').fill('router');
		await page.getByRole('button', { name: 'Log in' }).click();
		await page.getByText('All is well. 2 links work together.').first().waitFor();
	});

	it('has made no mistake that nobody saw', () => assert.deepEqual(world.troubles, []));
});
