// The app's files as a router serves them, and what its menu and ACL say.

import { existsSync, readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';

import { repository } from './lab.mjs';

const root = path.join(repository, 'luci-app/luci-app-wanbond');
const runtime = path.join(repository, 'tests/luci/runtime');

const types = { '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.png': 'image/png', '.json': 'application/json' };

/** The joined objects of all files in one of the app's folders. */
function joined(folder) {
	const at = path.join(root, 'root', folder);
	return Object.assign({}, ...readdirSync(at).map((name) => JSON.parse(readFileSync(path.join(at, name)))));
}

/** acl.d, group by group. */
export const acl = () => joined('usr/share/rpcd/acl.d');

/** menu.d, path by path. */
export const menu = () => joined('usr/share/luci/menu.d');

/** What a static path leads to, as { type, content }; undefined for what is not there. */
export function file(url) {
	const places = { '/luci-static/': path.join(root, 'htdocs/luci-static'), '/runtime/': runtime };
	for (const [ prefix, folder ] of Object.entries(places)) {
		if (!url.startsWith(prefix))
			continue;
		const found = path.join(folder, url.slice(prefix.length));
		if (found.startsWith(folder + path.sep) && existsSync(found) && types[path.extname(found)])
			return { type: types[path.extname(found)], content: readFileSync(found) };
	}
	return undefined;
}

/** A translation, as { original: [translations] }; empty where there is none. */
export function translation(language) {
	const found = path.join(root, 'po', language, 'wanbond.po');
	if (!/^[a-z]{2}$/.test(language) || !existsSync(found))
		return {};
	const texts = {};
	for (const entry of readFileSync(found, 'utf8').split(/\n\n+/)) {
		const field = (name) => {
			const lines = new RegExp(`^${name.replace(/[[\]]/g, '\\$&')} ((?:"(?:\\\\.|[^"\\\\])*"\\s*)+)`, 'm').exec(entry);
			return lines && [ ...lines[1].matchAll(/"(?:\\.|[^"\\])*"/g) ].map(([ text ]) => JSON.parse(text)).join('');
		};
		const original = field('msgid'), context = field('msgctxt');
		const translated = [ field('msgstr') ?? field('msgstr[0]'), field('msgstr[1]') ].filter(Boolean);
		if (original && translated.length)
			texts[context ? `${original}\u0001${context}` : original] = translated;
	}
	return texts;
}

/** A file as the router's package brings it. */
export const packaged = (name) => read(path.join(repository, 'openwrt/wanbond/files', name));

/** A text. */
export const read = (name) => readFileSync(name, 'utf8');
