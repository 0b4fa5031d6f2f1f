// Diagnostics: findings, the log, a speed test, a drill and the bundle, all of the real daemon; and the pages
// in other languages.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';

import { PATIENCE, World } from './world.mjs';

describe('Diagnostics', { timeout: 400000 }, () => {
	let world, page;

	before(async () => {
		world = await World.start();
		await world.bond();
		page = await world.login();
		await world.open(page, 'diagnostics');
	});
	after(() => world?.end());

	it('tells what the router finds', async () => {
		const [ code, { findings } ] = await world.router.ubus.call('wanbond', 'diagnose');
		assert.equal(code, 0);
		assert.ok(findings.length > 0);
		await page.getByText(findings[0].about).first().waitFor();
	});

	it('shows the daemon\'s own lines of the log', async () => {
		await page.getByLabel('Log').getByText(/INFO|connected|up/).first().waitFor();
	});

	it('is German for Germans, and French for the French', async () => {
		for (const [ locale, words, said ] of [ [ 'de-DE', 'Geschwindigkeitstest', 'WAN lte: in Betrieb' ], [ 'fr-FR', /Test de débit|vitesse/, 'WAN lte : en service' ] ]) {
			const other = await world.login('root', { locale });
			await world.open(other, 'diagnostics');
			await other.getByText(words).first().waitFor();
			// What the daemon says, too.
			await world.open(other, 'status');
			await other.locator('.wb-timeline').getByText(said).first().waitFor();
			await other.context().close();
		}
	});

	it('measures the links', async () => {
		await page.getByLabel('Link', { exact: true }).first().selectOption('fibre');
		await page.getByRole('button', { name: 'Measure' }).click();
		await page.getByRole('progressbar').waitFor();
		await page.locator('.wb-outcome').first().getByRole('table').waitFor({ timeout: 3 * PATIENCE });
		const text = await page.locator('.wb-outcome').first().innerText();
		assert.match(text, /fibre/);
		assert.match(text, /Mbit\/s/);
	});

	it('cuts a link as a drill, and brings it back', async () => {
		const drill = page.locator('section', { hasText: 'Failover drill' });
		await drill.getByRole('combobox').selectOption('lte');
		await drill.getByRole('button', { name: 'Cut it for 10 seconds' }).click();
		await world.until('lte is cut', ({ wans }) => wans[1].state != 'up');
		await world.until('lte is back', ({ wans }) => wans[1].state == 'up');
		await drill.locator('.wb-outcome').getByRole('table').first().waitFor({ timeout: 2 * PATIENCE });
		assert.match(await drill.locator('.wb-outcome').innerText(), /Longest silence of a connection/);
	});

	it('saves a bundle without secrets', async () => {
		const saved = page.waitForEvent('download');
		await page.getByRole('button', { name: 'Save the bundle' }).click();
		const text = readFileSync(await (await saved).path(), 'utf8');
		const [ , code ] = /option code '(.*)'/.exec(world.router.configuration);
		assert.ok(JSON.parse(text));
		assert.ok(!text.includes(code.slice(9, 30)), 'the pairing code is in it');
	});

	it('has made no mistake that nobody saw', () => assert.deepEqual(world.troubles, []));
});
