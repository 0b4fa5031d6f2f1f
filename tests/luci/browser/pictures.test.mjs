// Every page as people see it, on a desktop and on a phone, light and dark: pictures to look at in
// target/luci/, that nothing sticks out of a phone's screen, and that nothing hinders anybody (axe-core).
//
// LUCI_PICTURES=1 makes those of the READMEs as well, after a minute of traffic with a cut in it.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { repository } from '../server/lab.mjs';
import { World } from './world.mjs';

const OUT = path.join(repository, 'target/luci');
const KEPT = path.join(repository, 'luci-app/pictures');
const PAGES = [ 'status', 'setup', 'wans', 'servers', 'bypass', 'diagnostics' ];
const SCREENS = { desktop: { width: 1280, height: 900 }, phone: { width: 360, height: 740 } };
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

describe('pictures', { timeout: 300000 }, () => {
	let world;

	before(async () => {
		mkdirSync(OUT, { recursive: true });
		world = await World.start();
		await world.bond('\toption quota \'50 GB\'\n\toption billing_day \'14\'\n');
	});
	after(() => world?.end());

	for (const [ screen, viewport ] of Object.entries(SCREENS)) {
		for (const theme of [ 'light', 'dark' ]) {
			it(`of every page, ${screen}, ${theme}`, async () => {
				const page = await world.login('root', { viewport, colorScheme: theme });
				for (const view of PAGES) {
					await world.open(page, view);
					if (view == 'status') {
						await world.lab.do('download', { bytes: 15_000_000 });
						await page.getByRole('article', { name: 'lte' }).getByText('Round trip').waitFor();
					}
					await page.screenshot({ path: path.join(OUT, `${view}-${screen}-${theme}.png`), fullPage: true });
					const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
					assert.ok(wide <= 0, `${view} sticks out by ${wide} px`);
					assert.deepEqual(await world.hindrances(page), [], view);
				}
				await page.context().close();
			});
		}
	}

	it('of the states without a bond', async () => {
		const page = await world.login();
		await world.open(page, 'status');
		await world.lab.do('server_stop');
		await page.getByText('The server vps does not answer.').first().waitFor();
		await page.screenshot({ path: path.join(OUT, 'status-server-down.png') });
		assert.deepEqual(await world.hindrances(page), []);
		await world.lab.do('stop');
		await page.getByText('The wanbond service is not running.').first().waitFor();
		await page.screenshot({ path: path.join(OUT, 'status-daemon-down.png') });
		assert.deepEqual(await world.hindrances(page), []);
		await page.context().close();
		await world.lab.do('server_start');
		await world.lab.do('start');
	});

	it('of the READMEs', { skip: process.env.LUCI_PICTURES ? false : 'only where LUCI_PICTURES is set' }, async () => {
		mkdirSync(KEPT, { recursive: true });
		const light = await world.login('root', { viewport: { width: 1000, height: 1130 } });
		const dark = await world.login('root', { viewport: SCREENS.phone, colorScheme: 'dark' });
		await world.open(light, 'status');
		await world.open(dark, 'status');
		const traffic = (async () => {
			for (const end = Date.now() + 100_000; Date.now() < end;)
				await world.lab.do('download', { bytes: 60_000_000 });
		})();
		await sleep(50);
		await world.lab.do('cut', { wan: 'lte' });
		await sleep(15);
		await world.lab.do('restore', { wan: 'lte' });
		await sleep(30);
		await light.screenshot({ path: path.join(KEPT, 'status.png'), fullPage: false });
		await dark.screenshot({ path: path.join(KEPT, 'status-phone.png'), fullPage: false });
		await traffic;
	});

	it('without mistakes that nobody saw', () => assert.deepEqual(world.troubles, []));
});
