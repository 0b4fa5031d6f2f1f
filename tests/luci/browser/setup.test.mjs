// From a code in the clipboard to a bond: Setup in front of a daemon that was never configured.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { PATIENCE, World } from './world.mjs';

describe('Setup', { timeout: 240000 }, () => {
	let world, page, code;

	before(async () => {
		world = await World.start();
		world.router.reset();
		await world.lab.do('start');
		code = await world.lab.do('code', { name: 'home' });
		page = await world.login();
	});
	after(() => world?.end());

	const paste = (text) => page.getByLabel('Pairing code').fill(text);
	const next = () => page.getByRole('button', { name: /^Continue/ });

	it('leaves a router asleep that is not set up', async () => {
		const before = await world.lab.do('usage');
		await new Promise((resolve) => setTimeout(resolve, 4000));
		const used = (await world.lab.do('usage')).cpu_s - before.cpu_s;
		assert.ok(used < 0.2, `${used} s of processor in 4 s`);
	});

	it('is where the empty Status page leads', async () => {
		await world.open(page, 'status');
		await page.getByRole('link', { name: 'Set up wanbond' }).click();
		await page.getByLabel('Pairing code').waitFor();
		assert.ok(await next().isDisabled());
	});

	it('tells what is wrong with a code that is none', async () => {
		for (const [ wrong, told ] of [
			[ 'hello', /begins with .wanbond1:/ ],
			[ code.slice(0, 60), /cut off/ ],
			[ code.replace(':', ':?'), /letters, digits/ ],
		]) {
			await paste(wrong);
			await page.getByText(told).waitFor();
			assert.ok(await next().isDisabled(), wrong);
		}
	});

	it('lets the daemon find what only it can find', async () => {
		// One character is another: the daemon's checksum tells.
		const at = 40, other = code[at] == 'A' ? 'B' : 'A';
		await paste(code.slice(0, at) + other + code.slice(at + 1));
		await page.getByText('The check failed.').waitFor();
		assert.ok(await next().isDisabled());
	});

	it('has written nothing so far', () => {
		assert.doesNotMatch(world.router.configuration, /wanbond1:[\w-]{20}/);
		assert.ok(!world.router.rpc.calls.includes('uci.add') && !world.router.rpc.calls.includes('uci.set'));
	});

	it('checks a right code over every link, and bonds them in three steps', async () => {
		const begun = Date.now();
		await paste(code);
		await page.getByText('The server answers over 2 links.').waitFor();
		await next().click();
		assert.ok(await page.getByLabel('wan', { exact: false }).first().isChecked());
		assert.equal(await page.getByLabel('Role of wwan').inputValue(), 'overflow', 'a modem is paid by volume');
		assert.equal(await page.getByLabel('Role of wan', { exact: true }).inputValue(), 'bond');
		await page.getByLabel('Role of wwan').selectOption('bond');
		await next().click();
		await page.getByRole('button', { name: 'Back' }).click();
		assert.equal(await page.getByLabel('Role of wwan').inputValue(), 'bond', 'what was chosen is kept');
		await next().click();
		await page.getByRole('button', { name: 'Apply and connect' }).click();
		await page.getByText('Connected.').waitFor({ timeout: PATIENCE });
		console.log(`from the pasted code to the bond: ${((Date.now() - begun) / 1000).toFixed(1)} s`);
		await page.getByRole('link', { name: 'Go to Status' }).click();
		await page.getByText('All is well. 2 links work together.').first().waitFor();
		const status = await world.status();
		assert.deepEqual(status.wans.map(({ interface: name, role }) => [ name, role ]), [ [ 'wan', 'bond' ], [ 'wwan', 'bond' ] ]);
		assert.ok((await world.lab.do('download', { bytes: 2_000_000 })).complete);
	});

	it('has applied what it wrote without a complaint', async () => {
		await world.router.settled();
		assert.deepEqual(world.router.problems, []);
		assert.match(world.router.configuration, new RegExp(`option code '${code}'`));
		assert.deepEqual(world.troubles, []);
	});
});
