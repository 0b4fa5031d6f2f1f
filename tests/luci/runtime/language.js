// Translations and String.format.

let texts = {};

/** Loads the app's translation into a language. */
export async function speak(language) {
	texts = language == 'en' ? {} : await (await fetch(`/translation?to=${language}`)).json();
}

const found = (text, context) => texts[context ? `${text}\u0001${context}` : text];

export const translate = (text, context) => found(text, context)?.[0] ?? text;

export const translatePlural = (n, one, many, context) => {
	const known = found(one, context);
	return n == 1 ? known?.[0] ?? one : known?.[1] ?? known?.[0] ?? many;
};

const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

/** `%t`: seconds in words. */
function duration(seconds) {
	const whole = Math.floor(seconds);
	const parts = [ [ Math.floor(whole / 86400), 'd' ], [ Math.floor(whole / 3600) % 24, 'h' ], [ Math.floor(whole / 60) % 60, 'm' ], [ whole % 60, 's' ] ];
	const first = parts.findIndex(([ n ]) => n > 0);
	return parts.slice(first < 0 ? 3 : first).map(([ n, unit ]) => n + unit).join(' ');
}

/** `%1000.2m`: a number with a prefix of the metric system, or `%1024.2m` of IEC's. */
function metric(value, base, digits) {
	const prefixes = [ '', 'K', 'M', 'G', 'T', 'P', 'E' ];
	let at = 0;
	for (; Math.abs(value) > base && at < prefixes.length - 1; at++)
		value /= base;
	return at ? `${value.toFixed(digits)} ${prefixes[at]}${base == 1024 ? 'i' : ''}` : `${value.toFixed(digits)} `;
}

/** What LuCI's `'%d of %s'.format(1, 'x')` gives. */
export function format(pattern, ...values) {
	let next = 0;
	return pattern.replace(/%(?:(\d+)\$)?(['+ 0-]*)(\d+)?(?:\.(\d+))?([%bBcdeEfFhjmoqsStuxX])/g,
		(all, position, flags, width, precision, kind) => {
			if (kind == '%')
				return '%';
			const value = values[position ? position - 1 : next++];
			const digits = precision === undefined ? undefined : Number(precision);
			let text;
			switch (kind) {
			case 'd': case 'u': text = String(Math.trunc(Number(value)) || 0); break;
			case 'f': case 'F': text = Number(value).toFixed(digits ?? 6); break;
			case 'e': case 'E': text = Number(value).toExponential(digits); break;
			case 'x': text = Math.trunc(value).toString(16); break;
			case 'X': text = Math.trunc(value).toString(16).toUpperCase(); break;
			case 'o': text = Math.trunc(value).toString(8); break;
			case 'b': text = Math.trunc(value).toString(2); break;
			case 'c': text = String.fromCharCode(value); break;
			case 'j': text = JSON.stringify(value); break;
			case 'h': text = escape(value ?? ''); break;
			case 'q': text = escape(value ?? ''); break;
			case 't': return duration(Number(value) || 0);
			case 'm': return metric(Number(value) || 0, Number(width ?? 1000), digits ?? 2);
			default: text = String(value ?? ''); if (digits !== undefined) text = text.slice(0, digits);
			}
			if (width !== undefined)
				text = flags.includes('-') ? text.padEnd(width) : text.padStart(width, flags.includes('0') ? '0' : ' ');
			return flags.includes('+') && Number(value) >= 0 ? '+' + text : text;
		});
}

String.prototype.format = function(...values) {
	return format(String(this), ...values);
};
String.format = format;
