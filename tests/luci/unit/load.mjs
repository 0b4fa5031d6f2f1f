// Loads the application's modules without a browser, as LuCI does: text in, one instance out.

import { readFileSync } from 'node:fs';

const RESOURCES = new URL('../../../luci-app/luci-app-wanbond/htdocs/luci-static/resources/', import.meta.url);

// What LuCI adds to every text: %s, %d, %.2f, %%.
String.prototype.format = function (...values) {
	return this.replace(/%(?:\.(\d+))?([sdf%])/g, (_, digits, kind) => {
		if (kind === '%')
			return '%';
		const value = values.shift();
		if (kind === 'd')
			return String(Math.trunc(Number(value)));
		return kind === 'f' ? Number(value).toFixed(digits ?? 6) : String(value);
	});
};

/** The messages as they are written, in the form that fits the number. */
const translate = (text) => text;
const plural = (count, one, many) => (count === 1 ? one : many);

/** A module by its dotted name. `stubs` stand in for those of LuCI, `_` among them for its translation. */
export function load(name, stubs = {}) {
	const baseclass = { extend: (members) => members };
	const given = { baseclass, rpc: { declare: () => () => Promise.resolve({}) }, uci: {}, ...stubs };
	const source = readFileSync(new URL(name.replaceAll('.', '/') + '.js', RESOURCES), 'utf8');
	const names = [], values = [];
	for (const [, required, as] of source.matchAll(/^'require (\S+)(?: as (\w+))?';$/gm)) {
		names.push(as ?? required.replace(/\W/g, '_'));
		values.push(given[required] ?? load(required, stubs));
	}
	const L = { isObject: (value) => value !== null && typeof value === 'object', url: (...parts) => `/${parts.join('/')}`, resource: (path) => path, resolveDefault: (promise, value) => Promise.resolve(promise).catch(() => value) };
	return new Function('L', '_', 'N_', ...names, source)(L, stubs._ ?? translate, plural, ...values);
}
