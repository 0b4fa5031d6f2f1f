// L.uci: configurations, loaded once, changed here, and saved into the session's changes.

import { Base } from './class.js';

const call = (method, params, expect) => L.rpc.declare({ object: 'uci', method, params, expect, reject: true });

export const Uci = Base.extend({
	__name__: 'uci',

	__init__() {
		this.loaded = {};
		this.pending = {};
		this.created = 0;
		this.calls = {
			get: call('get', [ 'config' ], { values: {} }),
			add: call('add', [ 'config', 'type', 'name', 'values' ], { section: '' }),
			set: call('set', [ 'config', 'section', 'values' ]),
			delete: call('delete', [ 'config', 'section', 'options' ]),
			order: call('order', [ 'config', 'sections' ]),
			changes: call('changes', [], { changes: {} }),
			revert: call('revert', [ 'config' ]),
			confirm: call('confirm', []),
		};
		this.applyRaw = L.rpc.declare({ object: 'uci', method: 'apply', params: [ 'timeout', 'rollback' ] });
	},

	async load(configs) {
		const wanted = L.toArray(configs);
		await Promise.all(wanted.map(async (config) => {
			this.pending[config] ??= this.calls.get(config).catch((error) => {
				delete this.pending[config];
				throw error;
			});
			this.loaded[config] ??= { sections: structuredClone(await this.pending[config]), made: new Set(), gone: new Set(), changed: {}, ordered: false };
		}));
		return wanted;
	},

	unload(configs) {
		L.toArray(configs).forEach((config) => {
			delete this.loaded[config];
			delete this.pending[config];
		});
	},

	sections(config, type, each) {
		const found = Object.values(this.loaded[config]?.sections ?? {})
			.filter((section) => type === undefined || type === null || section['.type'] == type)
			.sort((a, b) => a['.index'] - b['.index']);
		if (each)
			found.forEach((section) => each.call(this, section, section['.name']));
		return found;
	},

	/** The name that `@type[index]` means. */
	resolveSID(config, id) {
		const indexed = /^@([\w-]+)\[(-?\d+)\]$/.exec(id ?? '');
		return indexed ? this.sections(config, indexed[1]).at(Number(indexed[2]))?.['.name'] ?? null : id;
	},

	get(config, id, option) {
		const section = this.loaded[config]?.sections[this.resolveSID(config, id)];
		if (!section || option === undefined || option === null)
			return section ?? null;
		const value = section[option];
		return value === undefined || value.length === 0 ? null : value;
	},

	get_first(config, type, option) {
		return this.get(config, this.sections(config, type)[0]?.['.name'], option);
	},

	get_bool(config, type, option) {
		return [ '1', 'on', 'true', 'yes', 'enabled' ].includes(String(this.get(config, type, option)).toLowerCase());
	},

	set(config, id, option, value) {
		const at = this.loaded[config], name = this.resolveSID(config, id), section = at?.sections[name];
		if (!section || option.startsWith('.'))
			return;
		if (value === null || value === undefined || value.length === 0)
			delete section[option];
		else
			section[option] = Array.isArray(value) ? value.map(String) : String(value);
		(at.changed[name] ??= new Set()).add(option);
	},

	set_first(config, type, option, value) {
		this.set(config, this.sections(config, type)[0]?.['.name'], option, value);
	},

	unset(config, id, option) {
		this.set(config, id, option, null);
	},

	add(config, type, name) {
		const at = this.loaded[config];
		const id = name ?? `new${(++this.created).toString(16).padStart(6, '0')}`;
		const last = Math.max(-1, ...Object.values(at.sections).map((section) => section['.index']));
		at.sections[id] = { '.anonymous': !name, '.type': type, '.name': id, '.index': last + 1 };
		at.made.add(id);
		return id;
	},

	remove(config, id) {
		const at = this.loaded[config], name = this.resolveSID(config, id);
		if (!at?.sections[name])
			return;
		delete at.sections[name];
		delete at.changed[name];
		if (!at.made.delete(name))
			at.gone.add(name);
	},

	move(config, id, other, after) {
		const order = this.sections(config).map((section) => section['.name']).filter((name) => name != id);
		order.splice(other ? order.indexOf(other) + (after ? 1 : 0) : order.length, 0, id);
		order.forEach((name, index) => this.loaded[config].sections[name]['.index'] = index);
		this.loaded[config].ordered = true;
		return true;
	},

	/** Hands what was changed here over to the router, where it waits to be applied. */
	async save() {
		const touched = [];
		for (const [ config, at ] of Object.entries(this.loaded)) {
			if (!at.made.size && !at.gone.size && !Object.keys(at.changed).length && !at.ordered)
				continue;
			touched.push(config);
			const names = new Map();
			for (const id of at.gone)
				await this.calls.delete(config, id);
			for (const id of at.made) {
				const section = at.sections[id];
				const values = Object.fromEntries(Object.entries(section).filter(([ name ]) => !name.startsWith('.')));
				names.set(id, await this.calls.add(config, section['.type'], section['.anonymous'] ? undefined : id, values));
			}
			for (const [ id, options ] of Object.entries(at.changed)) {
				if (at.made.has(id))
					continue;
				const set = [ ...options ].filter((name) => at.sections[id][name] !== undefined);
				const unset = [ ...options ].filter((name) => at.sections[id][name] === undefined);
				if (set.length)
					await this.calls.set(config, id, Object.fromEntries(set.map((name) => [ name, at.sections[id][name] ])));
				if (unset.length)
					await this.calls.delete(config, id, unset);
			}
			if (at.ordered)
				await this.calls.order(config, this.sections(config).map((section) => names.get(section['.name']) ?? section['.name']));
		}
		this.unload(touched);
		await this.load(touched);
	},

	async apply(timeout = L.env.apply_rollback) {
		const code = await this.applyRaw(timeout, true);
		if (code !== 0 && typeof code == 'number')
			throw Object.assign(new Error(_('Apply request failed with status %d').format(code)), { code });
		const until = Date.now() + timeout * 1000;
		for (;;) {
			await new Promise((resolve) => setTimeout(resolve, L.env.apply_holdoff * 1000));
			try {
				return await this.calls.confirm();
			}
			catch (error) {
				if (Date.now() > until)
					throw error;
			}
		}
	},

	changes() {
		return this.calls.changes();
	},

	async revertAll() {
		await Promise.all(Object.keys(await this.changes()).map((config) => this.calls.revert(config)));
	},
});
