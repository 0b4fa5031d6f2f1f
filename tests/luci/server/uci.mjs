// /etc/config's files: read, written, and changed as rpcd's object `uci` does, each session having changes
// of its own until it commits or applies them.

import { readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { status } from './ubus.mjs';

/** The words of a line, quotes taken off. */
function words(line) {
	const found = [];
	const one = /\s*(#.*|(?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s'"#\\])+)/gy;
	for (let match; (match = one.exec(line));) {
		if (match[1].startsWith('#'))
			break;
		found.push(match[1].replace(/'([^']*)'|"((?:\\.|[^"\\])*)"|\\(.)/g,
			(_, single, double, escaped) => single ?? double?.replace(/\\(.)/g, '$1') ?? escaped));
	}
	return found;
}

/** A file as a map of sections, `.name`, `.type` and `.anonymous` among their options. */
export function parse(text) {
	const sections = new Map();
	let section = null;
	for (const line of text.split('\n')) {
		const [ keyword, name, value ] = words(line);
		if (keyword == 'config') {
			const anonymous = value === undefined;
			const id = value ?? `cfg${(sections.size + 1).toString(16).padStart(2, '0')}${checksum(name)}`;
			section = { '.anonymous': anonymous, '.type': name, '.name': id };
			sections.set(id, section);
		}
		else if (keyword == 'option') {
			section[name] = value ?? '';
		}
		else if (keyword == 'list') {
			(section[name] ??= []).push(value ?? '');
		}
	}
	return sections;
}

const checksum = (text) =>
	[ ...text ].reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) & 0xffff, 7).toString(16).padStart(4, '0');

const quoted = (text) => `'${String(text).replaceAll('\'', '\'\\\'\'')}'`;

/** The file of such a map. As with `uci commit`, comments are gone. */
export function format(sections) {
	let text = '';
	for (const section of sections.values()) {
		text += `\nconfig ${section['.type']}${section['.anonymous'] ? '' : ' ' + quoted(section['.name'])}\n`;
		for (const [ name, value ] of Object.entries(section)) {
			if (name.startsWith('.'))
				continue;
			for (const element of [ value ].flat())
				text += `\t${Array.isArray(value) ? 'list' : 'option'} ${name} ${quoted(element)}\n`;
		}
	}
	return text;
}

const NAME = /^[A-Za-z0-9_]+$/;
const clone = (sections) => new Map([ ...sections ].map(([ id, section ]) => [ id, structuredClone(section) ]));

export class Uci {
	#folder;
	#sessions = new Map();
	#undo = null;
	#changed;
	#anonymous = 0;

	/** @param changed called with the names of the files that an apply or a commit has written. */
	constructor(folder, changed) {
		this.#folder = folder;
		this.#changed = changed;
	}

	file(config) {
		return path.join(this.#folder, config);
	}

	/** A call of object `uci`, access being checked. Gives [status, answer]. */
	async call(method, { ubus_rpc_session: session, ...args }, allowed) {
		const named = args.config;
		if (named !== undefined && !NAME.test(named))
			return [ status.INVALID_ARGUMENT ];
		const changing = ![ 'get', 'configs', 'changes', 'state' ].includes(method);
		if (named !== undefined && !allowed(named, changing ? 'write' : 'read'))
			return [ status.PERMISSION_DENIED ];
		const own = this.#sessions.get(session) ?? new Map();
		this.#sessions.set(session, own);
		const known = `_${method}`;
		if (typeof this[known] != 'function')
			return [ status.METHOD_NOT_FOUND ];
		return this[known](args, own, session);
	}

	/** Forgets what an ended session has changed. */
	forget(session) {
		this.#sessions.delete(session);
	}

	#load(config, own) {
		return own.get(config)?.sections ?? parse(readFileSync(this.file(config), 'utf8'));
	}

	/** Lets `change` work on the session's copy and notes what was done, as `uci changes` tells it. */
	#change({ config }, own, change) {
		if (!this._configs()[1].configs.includes(config))
			return [ status.NOT_FOUND ];
		const copy = own.get(config) ?? { sections: this.#load(config, own), log: [] };
		const answer = change(copy.sections, copy.log);
		if (copy.log.length)
			own.set(config, copy);
		return answer;
	}

	_configs() {
		return [ status.OK, { configs: readdirSync(this.#folder).sort() } ];
	}

	_get({ config, section, type, option }, own) {
		let sections;
		try {
			sections = this.#load(config, own);
		}
		catch {
			return [ status.NOT_FOUND ];
		}
		const indexed = [ ...sections.values() ].map((s, index) => [ s['.name'], { ...s, '.index': index } ]);
		if (section === undefined)
			return [ status.OK, { values: Object.fromEntries(indexed.filter(([ , s ]) => type === undefined || s['.type'] == type)) } ];
		const found = sections.get(section);
		if (!found || (option !== undefined && !(option in found)))
			return [ status.NOT_FOUND ];
		return [ status.OK, option === undefined ? { values: found } : { value: found[option] } ];
	}

	_add({ config, type, name, values = {} }, own) {
		return this.#change({ config }, own, (sections, log) => {
			if (!NAME.test(type ?? '') || (name !== undefined && !NAME.test(name)))
				return [ status.INVALID_ARGUMENT ];
			const id = name ?? `cfg${(++this.#anonymous).toString(16).padStart(6, 'a')}`;
			sections.set(id, { '.anonymous': name === undefined, '.type': type, '.name': id });
			log.push([ 'add', id, type ]);
			const [ code ] = this.#assign(sections, log, id, values);
			return [ code, { section: id } ];
		});
	}

	_set({ config, section, values = {} }, own) {
		return this.#change({ config }, own, (sections, log) => this.#assign(sections, log, section, values));
	}

	#assign(sections, log, section, values) {
		const found = sections.get(section);
		if (!found)
			return [ status.NOT_FOUND ];
		for (const [ name, value ] of Object.entries(values)) {
			if (!NAME.test(name))
				return [ status.INVALID_ARGUMENT ];
			found[name] = Array.isArray(value) ? value.map(String) : typeof value == 'boolean' ? String(Number(value)) : String(value);
			log.push([ 'set', section, name, String(value) ]);
		}
		return [ status.OK ];
	}

	_delete({ config, section, option, options }, own) {
		return this.#change({ config }, own, (sections, log) => {
			const found = sections.get(section);
			if (!found)
				return [ status.NOT_FOUND ];
			for (const name of options ?? (option === undefined ? [] : [ option ])) {
				delete found[name];
				log.push([ 'remove', section, name ]);
			}
			if (options === undefined && option === undefined) {
				sections.delete(section);
				log.push([ 'remove', section ]);
			}
			return [ status.OK ];
		});
	}

	_rename({ config, section, name }, own) {
		return this.#change({ config }, own, (sections, log) => {
			if (!sections.has(section) || !NAME.test(name ?? ''))
				return [ status.NOT_FOUND ];
			const renamed = [ ...sections ].map(([ id, s ]) => id == section ? [ name, { ...s, '.name': name, '.anonymous': false } ] : [ id, s ]);
			sections.clear();
			renamed.forEach(([ id, s ]) => sections.set(id, s));
			log.push([ 'rename', section, name ]);
			return [ status.OK ];
		});
	}

	_order({ config, sections: order }, own) {
		return this.#change({ config }, own, (sections, log) => {
			if (!order.every((id) => sections.has(id)))
				return [ status.NOT_FOUND ];
			const all = clone(sections);
			sections.clear();
			for (const id of [ ...order, ...[ ...all.keys() ].filter((id) => !order.includes(id)) ])
				sections.set(id, all.get(id));
			log.push([ 'order', ...order ]);
			return [ status.OK ];
		});
	}

	_changes({ config }, own) {
		if (config !== undefined)
			return [ status.OK, { changes: own.get(config)?.log ?? [] } ];
		return [ status.OK, { changes: Object.fromEntries([ ...own ].map(([ name, { log } ]) => [ name, log ])) } ];
	}

	_revert({ config }, own) {
		own.delete(config);
		return [ status.OK ];
	}

	_commit({ config }, own) {
		return this.#write([ config ], own);
	}

	#write(configs, own) {
		const written = configs.filter((config) => own.has(config));
		for (const config of written) {
			const file = this.file(config);
			writeFileSync(file + '.new', format(own.get(config).sections));
			renameSync(file + '.new', file);
			own.delete(config);
		}
		this.#changed(written);
		return [ status.OK ];
	}

	/** Writes everything; with `rollback`, what was there comes back unless it is confirmed in time. */
	_apply({ rollback, timeout = 60 }, own, session) {
		if (this.#undo)
			return [ status.PERMISSION_DENIED ];
		if (!own.size)
			return [ status.NO_DATA ];
		if (rollback) {
			const before = [ ...own.keys() ].map((config) => [ config, readFileSync(this.file(config), 'utf8') ]);
			const timer = setTimeout(() => this._rollback({}, own, session), timeout * 1000);
			this.#undo = { session, before, timer };
		}
		return this.#write([ ...own.keys() ], own);
	}

	_confirm(_, own, session) {
		if (!this.#undo)
			return [ status.NO_DATA ];
		if (this.#undo.session != session)
			return [ status.PERMISSION_DENIED ];
		clearTimeout(this.#undo.timer);
		this.#undo = null;
		return [ status.OK ];
	}

	_rollback(_, own, session) {
		if (!this.#undo)
			return [ status.NO_DATA ];
		if (this.#undo.session != session)
			return [ status.PERMISSION_DENIED ];
		const { before, timer } = this.#undo;
		clearTimeout(timer);
		this.#undo = null;
		before.forEach(([ config, text ]) => writeFileSync(this.file(config), text));
		this.#changed(before.map(([ config ]) => config));
		return [ status.OK ];
	}
}
