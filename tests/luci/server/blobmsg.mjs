// ubus' binary form of JSON: attributes of a 32 bit head, padded to 4 bytes; in tables and arrays each
// with a name. libubox' blob.h and blobmsg.h say how.

const ARRAY = 1, TABLE = 2, STRING = 3, INT64 = 4, INT32 = 5, INT16 = 6, BOOL = 7, DOUBLE = 8;
const EXTENDED = 0x80;

const padded = (length) => (length + 3) & ~3;

/** An attribute: `id` with its content, padded. */
export function attribute(id, content) {
	const out = Buffer.alloc(padded(4 + content.length));
	out.writeUInt32BE(((id << 24) | (4 + content.length)) >>> 0);
	content.copy(out, 4);
	return out;
}

/** The attributes of a buffer, as [id, content] pairs. */
export function* attributes(buffer) {
	for (let at = 0; at + 4 <= buffer.length;) {
		const head = buffer.readUInt32BE(at), length = head & 0xffffff;
		if (length < 4 || at + length > buffer.length)
			throw new Error('a blob that ends within an attribute');
		yield [ head >>> 24, buffer.subarray(at + 4, at + length) ];
		at += padded(length);
	}
}

function encodeNamed(name, value) {
	const [ type, content ] = encodeValue(value);
	const text = Buffer.from(name);
	const head = Buffer.alloc(padded(2 + text.length + 1));
	head.writeUInt16BE(text.length);
	text.copy(head, 2);
	return attribute(EXTENDED | type, Buffer.concat([ head, content ]));
}

function encodeValue(value) {
	switch (typeof value) {
	case 'string':
		return [ STRING, Buffer.from(value + '\0') ];
	case 'boolean':
		return [ BOOL, Buffer.from([ value ? 1 : 0 ]) ];
	case 'number': {
		const wide = !Number.isInteger(value) ? DOUBLE : Math.abs(value) < 0x80000000 ? INT32 : INT64;
		const out = Buffer.alloc(wide == INT32 ? 4 : 8);
		if (wide == DOUBLE)
			out.writeDoubleBE(value);
		else if (wide == INT64)
			out.writeBigInt64BE(BigInt(value));
		else
			out.writeInt32BE(value);
		return [ wide, out ];
	}
	case 'object':
		if (value === null)
			return [ TABLE, Buffer.alloc(0) ];
		if (Array.isArray(value))
			return [ ARRAY, Buffer.concat(value.map((element) => encodeNamed('', element))) ];
		return [ TABLE, encode(value) ];
	default:
		throw new TypeError(`ubus knows no ${typeof value}`);
	}
}

/** An object as the content of a table. */
export function encode(object) {
	return Buffer.concat(Object.entries(object)
		.filter(([ , value ]) => value !== undefined)
		.map(([ name, value ]) => encodeNamed(name, value)));
}

function* named(buffer) {
	for (const [ id, content ] of attributes(buffer)) {
		const length = content.readUInt16BE(0);
		yield [ content.toString('utf8', 2, 2 + length), id & 0x7f, content.subarray(padded(2 + length + 1)) ];
	}
}

function decodeValue(type, content) {
	switch (type) {
	case ARRAY: return [ ...named(content) ].map(([ , t, c ]) => decodeValue(t, c));
	case TABLE: return decode(content);
	case STRING: return content.toString('utf8', 0, content.length - 1);
	case INT64: return Number(content.readBigInt64BE());
	case INT32: return content.readInt32BE();
	case INT16: return content.readInt16BE();
	case BOOL: return content[0] != 0;
	case DOUBLE: return content.readDoubleBE();
	default: return null;
	}
}

/** The object that the content of a table is. */
export function decode(buffer) {
	return Object.fromEntries([ ...named(buffer) ].map(([ name, t, c ]) => [ name, decodeValue(t, c) ]));
}
