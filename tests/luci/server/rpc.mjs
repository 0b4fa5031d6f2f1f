// ubus over JSON-RPC 2.0, as uhttpd-mod-ubus speaks it: `call` and `list`, one or many at a time.

const PARSE = [ -32700, 'Parse error' ], REQUEST = [ -32600, 'Invalid request' ], METHOD = [ -32601, 'Method not found' ],
	PARAMETERS = [ -32602, 'Invalid parameters' ], NO_OBJECT = [ -32000, 'Object not found' ], DENIED = [ -32002, 'Access denied' ];

export class Rpc {
	#router;
	#own;
	/** Every call that was let through, as `object.method`; tests count them. */
	calls = [];

	/** @param own objects that stand beside those on the bus, as { object: { method: (args) => [status, answer] } } */
	constructor(router, own) {
		this.#router = router;
		this.#own = own.objects;
	}

	/** The answer to a request's text. */
	async answer(text) {
		let request;
		try {
			request = JSON.parse(text);
		}
		catch {
			return this.#error(null, PARSE);
		}
		return Array.isArray(request) ? Promise.all(request.map((one) => this.#one(one))) : this.#one(request);
	}

	#error(id, [ code, message ]) {
		return { jsonrpc: '2.0', id, error: { code, message } };
	}

	async #one(request) {
		const { jsonrpc, id, method, params } = request ?? {};
		if (jsonrpc != '2.0' || typeof method != 'string')
			return this.#error(id ?? null, REQUEST);
		if (method == 'list')
			return { jsonrpc, id, result: await this.#list(params ?? []) };
		if (method != 'call')
			return this.#error(id, METHOD);
		if (!Array.isArray(params) || params.length < 3 || params.slice(0, 3).some((p) => typeof p != 'string'))
			return this.#error(id, PARAMETERS);
		const [ session, object, name, given = {} ] = params;
		if (!given || typeof given != 'object' || 'ubus_rpc_session' in given)
			return this.#error(id, PARAMETERS);
		if (!this.#router.sessions.allows(session, 'ubus', object, name))
			return this.#error(id, DENIED);
		this.calls.push(`${object}.${name}`);
		const result = await this.#call(session, object, name, { ...given, ubus_rpc_session: session });
		// An object that is not there: 4, without an answer.
		if (result === undefined)
			return this.#error(id, NO_OBJECT);
		return { jsonrpc, id, result };
	}

	async #call(session, object, name, args) {
		const { sessions, uci, ubus } = this.#router;
		if (object == 'session')
			return sessions.call(name, args);
		if (object == 'uci')
			return uci.call(name, args, (config, what) => sessions.allows(session, 'uci', config, what));
		const own = this.#own[object];
		if (own)
			return own[name] ? own[name](args) : [ 3 ];
		if (!Object.keys(await ubus.list(object).catch(() => ({}))).length)
			return undefined;
		return ubus.call(object, name, args);
	}

	async #list(patterns) {
		const { ubus } = this.#router;
		if (!patterns.length)
			return Object.keys(await ubus.list('*'));
		return Object.assign({}, ...await Promise.all(patterns.map((pattern) => ubus.list(pattern))));
	}
}
