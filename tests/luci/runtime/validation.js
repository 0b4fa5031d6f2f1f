// L.validation: what an option's `datatype` lets pass, such as `or(port, portrange)`.

import { Base } from './class.js';

const integer = (value) => /^-?\d+$/.test(value);
const number = (value) => /^-?\d*\.?\d+$/.test(value);
const between = (value, min, max) => number(value) && Number(value) >= min && Number(value) <= max;
const ip4 = (value) => /^(?:\d{1,3}\.){3}\d{1,3}$/.test(value) && value.split('.').every((part) => part <= 255);
const ip6 = (value) => {
	if (!/^[\da-f:.]+$/i.test(value))
		return false;
	try {
		return Boolean(new URL(`http://[${value}]/`));
	}
	catch {
		return false;
	}
};
const sized = (value, address, bits) => {
	const [ ip, size, ...rest ] = value.split('/');
	return !rest.length && size !== undefined && address(ip) && integer(size) && between(size, 0, bits);
};
const hostname = (value) => value.length <= 253 && /^(?!-)[\w-]{1,63}(?<!-)(\.(?!-)[\w-]{1,63}(?<!-))*$/.test(value) && !/^[\d.]+$/.test(value);

/** Each type: whether a value is of it, given its arguments; and what to say when it is not. */
const types = {
	string: [ () => true, '' ],
	integer: [ integer, 'valid integer value' ],
	uinteger: [ (value) => integer(value) && value >= 0, 'positive integer value' ],
	float: [ number, 'valid decimal value' ],
	ufloat: [ (value) => number(value) && value >= 0, 'positive decimal value' ],
	bool: [ (value) => /^[01]$/.test(value), '1 or 0' ],
	uciname: [ (value) => /^\w+$/.test(value), 'valid UCI identifier' ],
	ip4addr: [ (value) => ip4(value) || sized(value, ip4, 32), 'valid IPv4 address' ],
	ip6addr: [ (value) => ip6(value) || sized(value, ip6, 128), 'valid IPv6 address' ],
	ipaddr: [ (value) => ip4(value) || ip6(value) || sized(value, ip4, 32) || sized(value, ip6, 128), 'valid IP address' ],
	cidr4: [ (value) => sized(value, ip4, 32), 'valid IPv4 CIDR' ],
	cidr6: [ (value) => sized(value, ip6, 128), 'valid IPv6 CIDR' ],
	cidr: [ (value) => sized(value, ip4, 32) || sized(value, ip6, 128), 'valid IPv4 or IPv6 CIDR' ],
	hostname: [ hostname, 'valid hostname' ],
	host: [ (value) => hostname(value) || ip4(value) || ip6(value), 'valid hostname or IP address' ],
	macaddr: [ (value) => /^([\da-f]{2}:){5}[\da-f]{2}$/i.test(value), 'valid MAC address' ],
	port: [ (value) => integer(value) && between(value, 0, 65535), 'valid port value' ],
	portrange: [ (value) => {
		const [ from, to = from, ...rest ] = value.split('-');
		return !rest.length && [ from, to ].every((port) => integer(port) && between(port, 0, 65535)) && Number(from) <= Number(to);
	}, 'valid port or port range (port1-port2)' ],
	network: [ (value) => /^[\w.-]+$/.test(value), 'valid UCI identifier, hostname or IP address range' ],
	min: [ (value, min) => number(value) && Number(value) >= min, 'value greater or equal to %s' ],
	max: [ (value, max) => number(value) && Number(value) <= max, 'value smaller or equal to %s' ],
	range: [ between, 'value between %s and %s' ],
	minlength: [ (value, min) => value.length >= min, 'value with at least %s characters' ],
	maxlength: [ (value, max) => value.length <= max, 'value with at most %s characters' ],
	rangelength: [ (value, min, max) => value.length >= min && value.length <= max, 'value between %s and %s characters' ],
};

/** `name(argument, …)` taken apart. */
function parse(text) {
	const [ , name, , inner ] = /^\s*([\w-]+)\s*(\((.*)\))?\s*$/s.exec(text) ?? [];
	if (!name)
		throw new Error(`not a datatype: ${text}`);
	const args = [];
	let depth = 0, part = '';
	for (const c of inner ?? '') {
		depth += c == '(' ? 1 : c == ')' ? -1 : 0;
		if (c == ',' && !depth) {
			args.push(part);
			part = '';
		}
		else {
			part += c;
		}
	}
	return { name, args: inner === undefined ? [] : [ ...args, part ].map((arg) => arg.trim()) };
}

/** What is wrong with a value, in words; null for nothing. */
export function problem(type, value) {
	const { name, args } = parse(type);
	switch (name) {
	case 'or': {
		const all = args.map((arg) => problem(arg, value));
		return all.includes(null) ? null : _('One of the following: %s').format(all.join(' - '));
	}
	case 'and': return args.map((arg) => problem(arg, value)).find((found) => found !== null) ?? null;
	case 'not': case 'neg': return problem(args[0], value.replace(/^\s*!\s*/, ''));
	case 'list': return value.split(/\s+/).map((one) => problem(args[0], one)).find((found) => found !== null) ?? null;
	default: {
		const [ passes, wanted ] = types[name] ?? L.raise('InternalError', 'no datatype "%s"', name);
		return passes(value, ...args) ? null : _(wanted).format(...args);
	}
	}
}

export const Validation = Base.extend({
	__name__: 'validation',
	types: Object.fromEntries(Object.entries(types).map(([ name, [ passes ] ]) => [ name, passes ])),
	problem,
});
