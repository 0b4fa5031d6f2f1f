// A client of ubusd: looks objects up and calls them, many calls at a time over one connection.

import net from 'node:net';

import { attribute, attributes, decode, encode } from './blobmsg.mjs';

// Messages and attributes, as ubusmsg.h counts them.
const HELLO = 0, STATUS = 1, DATA = 2, LOOKUP = 4, INVOKE = 5;
const A_STATUS = 1, A_PATH = 2, A_OBJECT = 3, A_METHOD = 4, A_SIGNATURE = 6, A_DATA = 7;

/** What calls end with besides 0. */
export const status = {
	OK: 0, INVALID_COMMAND: 1, INVALID_ARGUMENT: 2, METHOD_NOT_FOUND: 3, NOT_FOUND: 4,
	NO_DATA: 5, PERMISSION_DENIED: 6, TIMEOUT: 7, CONNECTION_FAILED: 10,
};

const number = (value) => {
	const out = Buffer.alloc(4);
	out.writeUInt32BE(value);
	return out;
};

export class Ubus {
	#path;
	#connecting = null;
	#socket = null;
	#sequence = 0;
	#waiting = new Map();
	#timeout;

	/** @param path the broker's socket; connected to at the first call, and again when it went away. */
	constructor(path, { timeout = 30000 } = {}) {
		this.#path = path;
		this.#timeout = timeout;
	}

	/** Calls a method. Gives [status, answer]; the answer is undefined where there is none. */
	async call(object, method, args = {}) {
		try {
			const [ found, objects ] = await this.#request(LOOKUP, 0, attribute(A_PATH, Buffer.from(object + '\0')));
			if (found)
				return [ found ];
			const id = objects[0].get(A_OBJECT).readUInt32BE();
			const [ code, answers ] = await this.#request(INVOKE, id, Buffer.concat([
				attribute(A_OBJECT, number(id)),
				attribute(A_METHOD, Buffer.from(method + '\0')),
				attribute(A_DATA, encode(args)),
			]));
			const data = answers.map((answer) => answer.get(A_DATA)).filter(Boolean);
			return data.length ? [ code, Object.assign({}, ...data.map(decode)) ] : [ code ];
		}
		catch (error) {
			if (error.code == 'BROKER')
				return [ status.CONNECTION_FAILED ];
			throw error;
		}
	}

	/** The methods of the objects that match a pattern, as { object: { method: { argument: type } } }. */
	async list(pattern) {
		const types = { 1: 'array', 2: 'object', 3: 'string', 4: 'number', 5: 'number', 6: 'number', 7: 'boolean', 8: 'number' };
		const [ , found ] = await this.#request(LOOKUP, 0, attribute(A_PATH, Buffer.from(pattern + '\0')));
		return Object.fromEntries(found.map((object) => {
			const methods = decode(object.get(A_SIGNATURE) ?? Buffer.alloc(0));
			for (const method of Object.values(methods))
				for (const name of Object.keys(method))
					method[name] = types[method[name]] ?? 'unknown';
			return [ object.get(A_PATH).toString('utf8').replace(/\0$/, ''), methods ];
		}));
	}

	close() {
		this.#socket?.destroy();
		this.#connecting = null;
	}

	async #request(type, peer, payload) {
		await (this.#connecting ??= this.#connect());
		const sequence = this.#sequence = (this.#sequence + 1) & 0xffff;
		const blob = attribute(0, payload);
		const head = Buffer.alloc(8);
		head[1] = type;
		head.writeUInt16BE(sequence, 2);
		head.writeUInt32BE(peer, 4);
		return new Promise((resolve, reject) => {
			const timer = setTimeout(() => {
				this.#waiting.delete(sequence);
				resolve([ status.TIMEOUT, [] ]);
			}, this.#timeout);
			this.#waiting.set(sequence, { resolve, reject, timer, data: [] });
			this.#socket.write(Buffer.concat([ head, blob ]));
		});
	}

	#connect() {
		return new Promise((resolve, reject) => {
			const socket = this.#socket = net.connect(this.#path);
			let read = Buffer.alloc(0);
			const gone = () => {
				const error = Object.assign(new Error('ubusd is gone'), { code: 'BROKER' });
				if (this.#socket == socket)
					this.#connecting = null;
				for (const { reject: tell, timer } of this.#waiting.values()) {
					clearTimeout(timer);
					tell(error);
				}
				this.#waiting.clear();
				reject(error);
			};
			socket.on('error', gone).on('close', gone);
			socket.on('data', (chunk) => {
				read = Buffer.concat([ read, chunk ]);
				while (read.length >= 12) {
					const length = 8 + (read.readUInt32BE(8) & 0xffffff);
					if (read.length < length)
						break;
					if (read[1] == HELLO)
						resolve();
					else
						this.#heard(read.subarray(0, length));
					read = read.subarray(length);
				}
			});
		});
	}

	#heard(message) {
		const request = this.#waiting.get(message.readUInt16BE(2));
		if (!request)
			return;
		const found = new Map(attributes(message.subarray(12)));
		if (message[1] == DATA)
			request.data.push(found);
		if (message[1] != STATUS)
			return;
		clearTimeout(request.timer);
		this.#waiting.delete(message.readUInt16BE(2));
		request.resolve([ found.get(A_STATUS)?.readUInt32BE() ?? status.OK, request.data ]);
	}
}
