// Sessions as rpcd keeps them: a login, what it may do, and an end when it is not used.
//
// What may be done comes from the app's own acl.d file, and from what LuCI's base grants everyone who is
// logged in (`BASE`). A login is given groups to read, or to read and write.

import { randomBytes } from 'node:crypto';

/** What LuCI's own packages let every login do, as far as the views need it, and no more: what is missing
 * here the app has to grant itself. */
const BASE = {
	unauthenticated: { read: { ubus: { session: [ 'access', 'login' ], luci: [ 'getFeatures' ] } } },
	'luci-base': {
		read: { ubus: { session: [ 'access', 'get' ], uci: [ 'changes', 'get' ] }, uci: [ 'luci', 'system' ] },
		write: { ubus: { uci: [ 'add', 'apply', 'confirm', 'delete', 'order', 'rename', 'set' ] } },
	},
	'luci-base-network-status': {
		read: {
			ubus: {
				'luci-rpc': [ 'getBoardJSON', 'getHostHints', 'getNetworkDevices' ],
				'network.interface': [ 'dump' ],
			},
			uci: [ 'luci', 'network' ],
		},
	},
};

/** Shell patterns, as far as `*` goes. */
const matches = (pattern, text) =>
	new RegExp('^' + pattern.split('*').map((part) => part.replace(/[\\^$.+?()[\]{}|]/g, '\\$&')).join('.*') + '$').test(text);

export class Sessions {
	#groups;
	#logins;
	#open = new Map();
	#ended;

	/**
	 * @param acl what acl.d has, group by group
	 * @param logins { user: { password, read: [group pattern], write: [group pattern] } }
	 */
	constructor(acl, logins, { ended = () => {} } = {}) {
		this.#groups = { ...BASE, ...acl };
		this.#logins = logins;
		this.#ended = ended;
		this.#open.set('0'.repeat(32), { grants: this.#grants([ 'unauthenticated' ], []), data: {}, timeout: Infinity, last: Date.now() });
	}

	/** A call of object `session`. Gives [status, answer]. */
	call(method, { ubus_rpc_session: id, ...args }) {
		const session = this.#get(id);
		switch (method) {
		case 'login': return this.#login(args);
		case 'access':
			return [ 0, args.object === undefined && args.scope === undefined
				? this.access(id)
				: { access: this.allows(id, args.scope ?? 'ubus', args.object, args.function) } ];
		case 'get': return [ 0, { values: session?.data ?? {} } ];
		case 'set':
			Object.assign(session.data, args.values);
			return [ 0 ];
		case 'list': return [ 0, { ubus_rpc_session: id, timeout: session.timeout, expires: session.timeout } ];
		case 'destroy':
			this.end(id);
			return [ 0 ];
		default: return [ 3 ];
		}
	}

	/** Whether it is allowed: scope `ubus`, an object, a function; `uci`, a file, `read` or `write`. */
	allows(id, scope, object, what) {
		const grants = this.#get(id)?.grants[scope] ?? [];
		return grants.some(([ pattern, functions ]) => matches(pattern, String(object)) && functions.some((f) => matches(f, String(what))));
	}

	/** Everything that a session may do, as `session access` lists it. */
	access(id) {
		const listed = {};
		for (const [ scope, grants ] of Object.entries(this.#get(id)?.grants ?? {})) {
			const all = listed[scope] = {};
			for (const [ object, functions ] of grants)
				all[object] = [ ...new Set([ ...all[object] ?? [], ...functions ]) ];
		}
		return listed;
	}

	/** Ends a session, as its time-out does. */
	end(id) {
		if (this.#open.delete(id))
			this.#ended(id);
	}

	endAll() {
		[ ...this.#open.keys() ].filter((id) => !/^0*$/.test(id)).forEach((id) => this.end(id));
	}

	known(id) {
		return this.#get(id) !== undefined;
	}

	#get(id) {
		const session = this.#open.get(id);
		if (session && Date.now() - session.last > session.timeout * 1000) {
			this.end(id);
			return undefined;
		}
		if (session)
			session.last = Date.now();
		return session;
	}

	#login({ username, password, timeout = 300 }) {
		const login = this.#logins[username];
		if (!login || login.password !== password)
			return [ 6 ];
		const id = randomBytes(16).toString('hex');
		const grants = this.#grants(login.read, login.write);
		const session = { grants, data: { username, token: randomBytes(16).toString('hex') }, timeout, last: Date.now() };
		this.#open.set(id, session);
		return [ 0, { ubus_rpc_session: id, timeout, expires: timeout, acls: this.access(id), data: session.data } ];
	}

	#grants(read, write) {
		const grants = { 'access-group': [] };
		const add = (scope, object, functions) => (grants[scope] ??= []).push([ object, functions ]);
		for (const [ name, group ] of Object.entries(this.#groups)) {
			const held = [ [ 'read', read ], [ 'write', write ] ]
				.filter(([ kind, patterns ]) => group[kind] && patterns.some((pattern) => matches(pattern, name)))
				.map(([ kind ]) => kind);
			if (held.length)
				add('access-group', name, held);
			for (const kind of held) {
				for (const [ scope, objects ] of Object.entries(group[kind])) {
					if (Array.isArray(objects))
						objects.forEach((object) => add(scope, object, [ kind ]));
					else
						Object.entries(objects).forEach(([ object, functions ]) => add(scope, object, functions));
				}
			}
		}
		return grants;
	}
}
