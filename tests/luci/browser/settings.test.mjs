// The pages with settings: what they write is what the daemon takes, and what is wrong never gets there.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { parse } from '../server/uci.mjs';
import { World } from './world.mjs';

describe('settings', { timeout: 240000 }, () => {
	let world, page;

	before(async () => {
		world = await World.start();
		await world.bond();
		page = await world.login();
	});
	after(() => world?.end());

	const section = (name) => parse(world.router.configuration).get(name);
	const dialog = () => page.getByRole('dialog');
	const field = (name) => dialog().locator(`[data-name=${name}]`);
	/** Save & Apply, until the daemon has it. */
	const apply = async () => {
		await page.getByRole('button', { name: 'Save & Apply' }).click();
		await page.getByText('Configuration changes applied.').waitFor();
		await world.router.settled();
		assert.deepEqual(world.router.problems, []);
		await dialog().waitFor({ state: 'detached' });
	};
	const edit = (id) => page.locator(`[data-section-id=${id}]`).getByRole('button', { name: 'Edit' }).click();
	const save = () => dialog().getByRole('button', { name: 'Save' }).click();

	it('give a WAN a role and a quota, which the running daemon takes over', async () => {
		await world.open(page, 'wans');
		await edit('lte');
		await field('role').getByRole('combobox').selectOption('overflow');
		assert.deepEqual(await world.hindrances(page, '[role=dialog]'), []);
		await field('quota').getByRole('textbox').fill('lots');
		await save();
		await dialog().getByText('A quota is a number and a unit').first().waitFor();
		await field('quota').getByRole('textbox').fill('50 GB');
		await field('billing_day').getByRole('textbox').fill('14');
		await save();
		await dialog().waitFor({ state: 'detached' });
		assert.equal(section('lte').quota, undefined, 'saved, not yet applied');
		await apply();
		assert.deepEqual([ section('lte').role, section('lte').quota, section('lte').billing_day ], [ 'overflow', '50 GB', '14' ]);
		const status = await world.until('the quota', ({ wans }) => wans[1].quota !== null && wans[1].role == 'overflow');
		assert.equal(status.wans[1].quota.billing_day, 14);
	});

	it('switch everything off and on', async () => {
		await world.open(page, 'wans');
		await page.getByLabel('Bond the links').uncheck();
		await apply();
		await world.until('off', (status) => status.enabled === false);
		await page.getByLabel('Bond the links').check();
		await apply();
		await world.until('on', (status) => status.server?.state == 'connected');
	});

	it('refuse a pairing code that can\'t be one', async () => {
		await world.open(page, 'servers');
		await edit('vps');
		const before = world.router.configuration;
		await field('code').getByRole('textbox').fill('wanbond1:abc');
		await save();
		await dialog().getByText('This pairing code is cut off.').first().waitFor();
		await dialog().getByRole('button', { name: 'Dismiss' }).click();
		await dialog().waitFor({ state: 'detached' });
		assert.equal(world.router.configuration, before);
	});

	it('write a bypass rule, which the running router follows until it is removed', async () => {
		const VPS = '198.51.100.10';
		assert.equal(await world.lab.do('seen_from'), VPS);
		await world.open(page, 'bypass');
		await page.getByPlaceholder('Name').fill('tv');
		await page.getByRole('button', { name: 'Add a rule' }).click();
		await save();
		await dialog().getByText('The rule says nothing about what it is for.').first().waitFor();
		await field('port').getByRole('textbox').fill('80');
		await field('port').getByRole('textbox').press('Enter');
		await field('to').getByRole('combobox').selectOption('direct');
		await save();
		await dialog().waitFor({ state: 'detached' });
		await page.getByText('port 80').waitFor();
		assert.equal(await world.lab.do('seen_from'), VPS, 'saved, not yet applied');
		await apply();
		await world.until('the rule', ({ bypass }) => bypass.rules[0]?.name == 'tv');
		assert.match(await world.lab.do('tables'), /dport 80\b/);
		assert.notEqual(await world.lab.do('seen_from'), VPS);
		await page.locator('[data-section-id=tv]').getByText(/1 connection/).waitFor();
		await page.locator('[data-section-id=tv]').getByRole('button', { name: 'Delete' }).click();
		await apply();
		await world.until('no rule', ({ bypass }) => bypass.rules.length == 0);
		assert.equal(await world.lab.do('seen_from'), VPS);
	});

	it('have made no mistake that nobody saw', () => assert.deepEqual(world.troubles, []));
});
