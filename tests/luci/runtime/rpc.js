// L.rpc: declared functions that call ubus over JSON-RPC. Calls of one turn go out together.

import { Base } from './class.js';

const STATUS = [ 'Command OK', 'Invalid command', 'Invalid argument', 'Method not found', 'Resource not found', 'No data received',
	'Permission denied', 'Request timeout', 'Not supported', 'Unspecified error', 'Connection lost' ];

const failure = (name, text) => Object.assign(new Error(text), { name });

let next = 1;
let queue = null;

/** Sends a message; gives the answer's frame. */
function send(message) {
	return new Promise((resolve, reject) => {
		if (!queue) {
			queue = [];
			queueMicrotask(flush);
		}
		queue.push({ message: { jsonrpc: '2.0', id: next++, ...message }, resolve, reject });
	});
}

async function flush() {
	const sent = queue;
	queue = null;
	const messages = sent.map(({ message }) => message);
	try {
		const response = await fetch(L.env.ubuspath, {
			method: 'POST',
			body: JSON.stringify(messages.length > 1 ? messages : messages[0]),
			signal: AbortSignal.timeout(L.env.rpctimeout * 1000),
		});
		if (!response.ok)
			throw failure('RPCError', `RPC call failed with HTTP error ${response.status}`);
		const answers = new Map([ await response.json() ].flat().map((answer) => [ answer.id, answer ]));
		sent.forEach(({ message, resolve }) => resolve(answers.get(message.id)));
	}
	catch (error) {
		const known = error.name == 'TimeoutError' ? failure('TimeoutError', 'XHR request timed out') : error;
		sent.forEach(({ reject }) => reject(known));
	}
}

const kind = (value) => Object.prototype.toString.call(value);

export const Rpc = Base.extend({
	__name__: 'rpc',

	__init__() {
		this.interceptors = [];
	},

	getSessionID: () => L.env.sessionid,
	setSessionID(id) {
		L.env.sessionid = id;
	},
	getBaseURL: () => L.env.ubuspath,
	getStatusText: (code) => _(STATUS[code] ?? 'Unknown error code'),

	addInterceptor(interceptor) {
		this.interceptors.push(interceptor);
		return interceptor;
	},

	removeInterceptor(interceptor) {
		const before = this.interceptors.length;
		this.interceptors = this.interceptors.filter((known) => known != interceptor);
		return before != this.interceptors.length;
	},

	list: (...names) => send({ method: 'list', params: names.length ? names : undefined }).then(({ result }) => result),

	declare(options) {
		const names = options.params ?? [];
		return (...args) => {
			const given = names.map((name, index) => [ name, args[index] ]).filter(([ , value ]) => value !== undefined);
			const params = [ L.env.sessionid, options.object, options.method, Object.fromEntries(given) ];
			return send({ method: 'call', params }).then(async (frame) => {
				await Promise.all(this.interceptors.map((interceptor) => interceptor(frame, options)));
				return this.parsed(options, frame, Object.fromEntries(given), args.slice(names.length));
			});
		};
	},

	/** What a declared function gives for an answer's frame. */
	parsed({ object, method, expect, filter, reject }, frame, params, extra) {
		if (frame?.jsonrpc != '2.0')
			throw failure('RPCError', `RPC call to ${object}/${method} returned invalid message frame`);
		if (frame.error)
			throw failure('RPCError', `RPC call to ${object}/${method} failed with error ${frame.error.code}: ${frame.error.message}`);
		const [ code, data ] = frame.result;
		if (reject && code)
			throw failure('RPCError', `RPC call to ${object}/${method} failed with ubus code ${code}: ${this.getStatusText(code)}`);
		let answer = frame.result.length > 1 ? data : code;
		for (const [ key, wanted ] of Object.entries(expect ?? {})) {
			if (answer !== null && key)
				answer = answer[key];
			if (answer === null || answer === undefined || kind(answer) != kind(wanted))
				answer = wanted;
			break;
		}
		return filter ? filter.call(this, answer, params, ...extra) : answer;
	},
});
