// A router's web server: the app's files in a page of our own runtime, and ubus over JSON-RPC with
// sessions, as uhttpd and rpcd have it.
//
//   node server/main.mjs [PORT]    with a lab of its own, until Ctrl-C

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

import * as app from './app.mjs';
import { Lab } from './lab.mjs';
import { loginPage, viewPage } from './pages.mjs';
import { RouterObjects } from './router.mjs';
import { Rpc } from './rpc.mjs';
import { Sessions } from './sessions.mjs';
import { Ubus } from './ubus.mjs';
import { Uci } from './uci.mjs';

/** Who may log in: the owner, and someone who may look. */
export const LOGINS = {
	root: { password: 'router', read: [ '*' ], write: [ '*' ] },
	guest: { password: 'looks', read: [ '*' ], write: [] },
};

const body = async (request) => {
	const parts = [];
	for await (const part of request)
		parts.push(part);
	return Buffer.concat(parts).toString();
};

const cookies = (request) =>
	Object.fromEntries((request.headers.cookie ?? '').split(/;\s*/).map((pair) => pair.split('=', 2)));

export class Router {
	lab;
	ubus;
	sessions;
	uci;
	rpc;
	#http;
	#folder;
	/** What went wrong while the daemon was made to take a new configuration. */
	problems = [];
	#reloads = Promise.resolve();

	/** Starts lab and web server. */
	static async start(port = 0) {
		const router = new Router();
		router.lab = await Lab.start();
		const { ubus, networks } = router.lab.where;
		router.#folder = mkdtempSync(path.join(os.tmpdir(), 'wanbond-luci-'));
		router.#writeConfigs(networks);
		router.ubus = new Ubus(ubus);
		router.uci = new Uci(router.#folder, (written) => router.#changed(written));
		router.sessions = new Sessions(app.acl(), LOGINS, { ended: (id) => router.uci.forget(id) });
		router.rpc = new Rpc(router, new RouterObjects(router.lab));
		router.#http = http.createServer((request, response) => router.#serve(request, response).catch((error) => {
			response.writeHead(500).end(String(error.stack));
		}));
		await new Promise((resolve) => router.#http.listen(port, '127.0.0.1', resolve));
		return router;
	}

	get url() {
		return `http://127.0.0.1:${this.#http.address().port}`;
	}

	/** The configuration as the package brings it. */
	reset() {
		this.#writeConfigs(this.lab.where.networks);
	}

	/** Another /etc/config/wanbond, as by hand. */
	configure(text) {
		writeFileSync(path.join(this.#folder, 'wanbond'), text);
		this.#give();
	}

	/** /etc/config/wanbond as it is. */
	get configuration() {
		return app.read(path.join(this.#folder, 'wanbond'));
	}

	/** Waits until the daemon has been told of every change. */
	settled() {
		return this.#reloads;
	}

	async end() {
		this.#http.closeAllConnections();
		this.#http.close();
		this.ubus.close();
		await this.lab.end();
		rmSync(this.#folder, { recursive: true });
	}

	#writeConfigs(networks) {
		const sections = networks.map(({ interface: name, proto, device }) =>
			`config interface '${name}'\n\toption proto '${proto}'\n\toption device '${device}'\n`);
		const files = { network: sections.join('\n'), luci: '', system: '', dhcp: '', wanbond: app.packaged('etc/config/wanbond') };
		for (const [ name, text ] of Object.entries(files))
			writeFileSync(path.join(this.#folder, name), text);
		this.#give();
	}

	/** The daemon's file is a copy: the lab names it before there is anything of ours. */
	#give() {
		writeFileSync(this.lab.where.config, app.read(path.join(this.#folder, 'wanbond')));
	}

	#changed(written) {
		if (!written.includes('wanbond'))
			return;
		this.#give();
		this.#reloads = this.#reloads
			.then(() => this.lab.do('reload'))
			.catch((error) => this.problems.push(error));
	}

	async #serve(request, response) {
		const { pathname, searchParams } = new URL(request.url, 'http://router');
		const send = (code, type, content, headers = {}) =>
			response.writeHead(code, { 'content-type': type, 'cache-control': 'no-store', ...headers }).end(content);
		const html = (code, content, headers) => send(code, 'text/html; charset=utf-8', content, headers);
		const found = request.method == 'GET' && app.file(pathname);
		if (found)
			return send(200, found.type, found.content);
		if (pathname == '/translation')
			return send(200, 'application/json', JSON.stringify(app.translation(searchParams.get('to'))));
		if (request.method == 'POST' && /^\/(ubus|cgi-bin\/luci\/admin\/ubus)(\/|$)/.test(pathname))
			return send(200, 'application/json', JSON.stringify(await this.rpc.answer(await body(request))));
		if (pathname == '/')
			return html(302, '', { location: '/cgi-bin/luci/' });
		if (!pathname.startsWith('/cgi-bin/luci'))
			return html(404, 'nothing here');
		return this.#page(request, pathname.slice('/cgi-bin/luci'.length).replace(/^\/|\/$/g, ''), html);
	}

	async #page(request, wanted, html) {
		let session = cookies(request).sysauth;
		if (request.method == 'POST') {
			const form = new URLSearchParams(await body(request));
			const [ code, login ] = this.sessions.call('login', { username: form.get('luci_username'), password: form.get('luci_password'), timeout: 3600 });
			if (code)
				return html(403, loginPage(true));
			session = login.ubus_rpc_session;
			return html(302, '', { location: request.url, 'set-cookie': `sysauth=${session}; Path=/; HttpOnly; SameSite=Strict` });
		}
		if (!session || !this.sessions.known(session))
			return html(403, loginPage(false));
		if (wanted == 'admin/logout') {
			this.sessions.end(session);
			return html(302, '', { location: '/cgi-bin/luci/' });
		}
		const page = viewPage(app.menu(), wanted, session, this.sessions, request.headers['accept-language'] ?? 'en');
		if (page.location)
			return html(302, '', page);
		return html(page.code, page.content);
	}
}

if (import.meta.url == pathToFileURL(process.argv[1]).href) {
	const router = await Router.start(Number(process.argv[2] ?? 0));
	const code = await router.lab.do('code', { name: 'home' });
	await router.lab.do('start').catch((error) => console.error(error.message));
	console.log(`${router.url}/  root/router or guest/looks\npairing code: ${code}`);
	process.on('SIGINT', () => router.end().then(() => process.exit()));
}
