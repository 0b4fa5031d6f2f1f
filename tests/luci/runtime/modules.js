// What views require: modules of the runtime, and the app's own files, loaded as LuCI does.

import { Base } from './class.js';
import { dom } from './dom.js';

const once = (make) => {
	let made;
	return () => (made ??= make());
};

/** The runtime's own modules, by the names that LuCI's have. */
export const modules = {
	baseclass: once(async () => Base),
	dom: once(async () => dom),
	poll: once(async () => L.Poll),
	rpc: once(async () => new (await import('./rpc.js')).Rpc()),
	view: once(async () => (await import('./view.js')).View),
	ui: once(async () => new (await import('./ui.js')).Ui()),
	uci: once(async () => new (await import('./uci.js')).Uci()),
	form: once(async () => new (await import('./form.js')).Form()),
	validation: once(async () => new (await import('./validation.js')).Validation()),
	network: once(async () => new (await import('./network.js')).Network()),
	'tools.widgets': once(async () => new (await import('./widgets.js')).Widgets()),
};

const loaded = new Map();

/** A module by its dotted name. As in LuCI: classes of the app's files come as an instance. */
export function require(name) {
	if (modules[name])
		return modules[name]();
	if (!loaded.has(name))
		loaded.set(name, load(name));
	return loaded.get(name);
}

async function load(name) {
	const response = await fetch(L.resource(...name.split('.')) + '.js');
	if (!response.ok)
		throw new Error(`HTTP error ${response.status} while loading class file "${name}"`);
	const source = await response.text();
	// The directives before the first statement say what is needed, and by which name.
	const needed = [];
	const directive = /\s*(?:\/\/[^\n]*|\/\*[^]*?\*\/|(['"])((?:(?!\1).)*)\1\s*;)/y;
	for (let match; (match = directive.exec(source));) {
		const wanted = /^require\s+([^\s]+)(?:\s+as\s+([A-Za-z_$][\w$]*))?$/.exec(match[2] ?? '');
		if (wanted)
			needed.push({ module: wanted[1], as: wanted[2] ?? wanted[1].replaceAll('.', '_') });
	}
	const found = await Promise.all(needed.map(({ module }) => require(module)));
	const names = needed.map(({ as }) => as);
	const make = new Function('window', 'document', 'L', ...names, `${source}\n//# sourceURL=${name}.js`);
	const made = make(window, document, L, ...found);
	if (!Base.isSubclass(made))
		throw new TypeError(`"${name}" factory yields invalid constructor`);
	return new made();
}
