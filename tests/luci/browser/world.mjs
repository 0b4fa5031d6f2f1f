// What the browser's tests share: a router in its lab, a browser in front of it, and people who log in.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

import { launch } from '../server/browser.mjs';
import { LOGINS, Router } from '../server/main.mjs';

/** How long anything may take on a machine that has much else to do. */
export const PATIENCE = Number(process.env.LUCI_PATIENCE ?? 40) * 1000;

/** What looks for what hinders people: names that screen readers need, contrast, structure. */
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export const VIEWS = 'admin/network/wanbond/';

export class World {
	router;
	browser;
	/** What went wrong in pages without anybody catching it. */
	troubles = [];

	static async start() {
		const world = new World();
		world.router = await Router.start();
		try {
			world.browser = await launch();
		}
		catch (error) {
			await world.router.end();
			throw error;
		}
		return world;
	}

	async end() {
		await this.browser.close();
		await this.router.end();
	}

	get lab() {
		return this.router.lab;
	}

	/** A page of its own for someone who has logged in. */
	async login(user = 'root', options = {}) {
		const context = await this.browser.newContext({ locale: 'en-GB', ...options });
		const page = await context.newPage();
		page.setDefaultTimeout(PATIENCE);
		page.on('pageerror', (error) => this.troubles.push(String(error)));
		await page.goto(`${this.router.url}/cgi-bin/luci/`);
		await page.getByLabel('Username').fill(user);
		await page.getByLabel('Password').fill(LOGINS[user].password);
		await page.getByRole('button', { name: 'Log in' }).click();
		await page.waitForSelector('#view[data-ready]');
		return page;
	}

	/** Opens one of the app's views and waits until it is there. */
	async open(page, view) {
		await page.goto(`${this.router.url}/cgi-bin/luci/${VIEWS}${view}`);
		await page.waitForSelector('#view[data-ready]');
		assert.equal(await page.getAttribute('#view', 'data-ready'), 'yes', this.troubles.join('\n'));
	}

	/** What hinders people on the app's part of a page, by the rules of WCAG 2.1 AA; empty if nothing does. */
	async hindrances(page, part = '#view') {
		await page.evaluate(AXE);
		return page.evaluate(async (within) => {
			// The colours of LuCI's own buttons are the theme's business.
			const context = { include: within, exclude: [ '.cbi-button-remove', '.cbi-button-reset' ] };
			const { violations } = await globalThis.axe.run(context, { runOnly: [ 'wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa' ] });
			return violations.flatMap(({ id, nodes }) => nodes.map(({ html, any }) => `${id}: ${html.slice(0, 160)} (${any[0]?.message ?? ''})`));
		}, part);
	}

	/** Server, WANs and LAN configured as a person would have done; daemon and bond up. */
	async bond(more = '') {
		const code = await this.lab.do('code', { name: `router${Date.now()}` });
		this.router.configure(`config wanbond 'globals'\n\toption enabled '1'\n\tlist lan 'lan'\n` +
			`config server 'vps'\n\toption code '${code}'\n` +
			'config wan \'fibre\'\n\toption interface \'wan\'\n' +
			`config wan 'lte'\n\toption interface 'wwan'\n${more}`);
		await this.lab.do('reload');
		await this.until('both WANs up', (status) => status.server?.state == 'connected' && status.wans.length == 2 &&
			status.wans.every((wan) => wan.state == 'up') && status.lanes.idle > 0);
	}

	async status() {
		const [ code, status ] = await this.router.ubus.call('wanbond', 'status');
		assert.equal(code, 0);
		return status;
	}

	/** Waits until the daemon's status is as `wanted` says. */
	async until(what, wanted) {
		let last;
		for (const end = Date.now() + PATIENCE; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 100))) {
			[ , last ] = await this.router.ubus.call('wanbond', 'status');
			if (last && wanted(last))
				return last;
		}
		throw new Error(`not in time: ${what}; status: ${JSON.stringify(last)}`);
	}

	/** A session without a page, for calls on ubus as a program would make them. */
	async session(user) {
		const { result: [ code, login ] } = await this.call('0'.repeat(32), 'session', 'login', { username: user, password: LOGINS[user]?.password ?? '', timeout: 600 });
		assert.equal(code, 0);
		return login.ubus_rpc_session;
	}

	/** A call of ubus over HTTP; gives JSON-RPC's frame. */
	async call(session, object, method, args = {}) {
		const request = { jsonrpc: '2.0', id: 1, method: 'call', params: [ session, object, method, args ] };
		return (await fetch(`${this.router.url}/ubus`, { method: 'POST', body: JSON.stringify(request) })).json();
	}
}
