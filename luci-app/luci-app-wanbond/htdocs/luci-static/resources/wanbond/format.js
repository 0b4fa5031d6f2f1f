'use strict';
'require baseclass';

/*
 * Numbers as people read them: bit rates, bytes, times. Rates and bytes are decimal (1 kbit/s is 1000 bit/s),
 * as lines and quotas are sold.
 */

/* Several pages format some hundred numbers in each poll: the formatters are made once. */
const formatters = {};

function locale() {
	const lang = (typeof document == 'object' && document) ? document.documentElement.lang : '';

	return /^[a-z]{2,3}([-_][A-Za-z]+)*$/.test(lang) ? lang.replace(/_/g, '-') : 'en';
}

function number(value, digits, least) {
	const key = '%s %d %d'.format(locale(), digits, least ?? digits);

	if (formatters[key] == null)
		formatters[key] = new Intl.NumberFormat(locale(), { minimumFractionDigits: least ?? digits, maximumFractionDigits: digits });

	return formatters[key].format(value);
}

/*
 * With one digit behind the point, but for the smallest unit. A number that stands still may drop a zero there; one
 * that lives keeps it, or it would jump about.
 */
function scaled(value, units, still) {
	let step = 0;

	/* 999.6 would be shown as 1000 of its unit. */
	while (Math.round(value) >= 1000 && step < units.length - 1) {
		value /= 1000;
		step++;
	}

	const digits = step > 0 && Math.round(value * 10) < 1000 ? 1 : 0;

	return { value: number(value, digits, still ? 0 : digits), unit: units[step] };
}

function isKnown(value) {
	return typeof(value) == 'number' && isFinite(value);
}

return baseclass.extend({
	/* What stands where nothing is known. */
	none: '–',

	/* A bit rate in parts, for where the number is set larger than its unit. */
	rateParts(bps, still) {
		return isKnown(bps)
			? scaled(Math.max(bps, 0), [ 'bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s', 'Tbit/s' ], still)
			: { value: this.none, unit: '' };
	},

	rate(bps, still) {
		const { value, unit } = this.rateParts(bps, still);

		return unit ? '%s\u00a0%s'.format(value, unit) : value;
	},

	bytes(count) {
		if (!isKnown(count))
			return this.none;

		const { value, unit } = scaled(Math.max(count, 0), [ 'B', 'kB', 'MB', 'GB', 'TB', 'PB' ], true);

		return '%s\u00a0%s'.format(value, unit);
	},

	/* Milliseconds, tenths only where they say something. */
	ms(value) {
		return isKnown(value) ? '%s\u00a0ms'.format(number(value, value < 10 ? 1 : 0)) : this.none;
	},

	percent(value) {
		if (!isKnown(value))
			return this.none;

		/* A little is not nothing. */
		if (value > 0 && value < 0.1)
			return '<\u00a0%s\u00a0%%'.format(number(0.1, 1));

		return '%s\u00a0%%'.format(number(value, value > 0 && value < 9.95 ? 1 : 0));
	},

	/* A part of the whole, from 0 to 1. */
	share(part) {
		return isKnown(part) ? '%s\u00a0%%'.format(number(part * 100, 0)) : this.none;
	},

	count(value) {
		return isKnown(value) ? number(value, 0) : this.none;
	},

	/* A span of time in its one or two largest units. */
	span(seconds) {
		if (!isKnown(seconds))
			return this.none;

		const s = Math.max(0, Math.floor(seconds));
		const parts = (large, largeText, small, smallText) =>
			small ? '%s %s'.format(largeText.format(large), smallText.format(small)) : largeText.format(large);

		if (s < 60)
			return _('%d s').format(s);

		if (s < 3600)
			return s < 600 ? parts(Math.floor(s / 60), _('%d min'), s % 60, _('%d s')) : _('%d min').format(Math.floor(s / 60));

		if (s < 86400)
			return parts(Math.floor(s / 3600), _('%d h'), Math.floor(s % 3600 / 60), _('%d min'));

		return parts(Math.floor(s / 86400), _('%d d'), Math.floor(s % 86400 / 3600), _('%d h'));
	},

	/* The time of day; with its date when that was not within the last 20 hours. */
	clock(date, now) {
		const age = (now ?? Date.now()) - date;
		const time = { hourCycle: 'h23', hour: '2-digit', minute: '2-digit', second: age < 3600e3 ? '2-digit' : undefined };
		const day = age > 20 * 3600e3 ? { day: 'numeric', month: 'short' } : {};

		return new Intl.DateTimeFormat(locale(), Object.assign(day, time)).format(new Date(date));
	},

	/* The day of a month on which a quota starts anew, next time after now. */
	nextBillingDay(day, now) {
		const from = new Date(now ?? Date.now());
		const at = (year, month) => {
			/* Day 31 of a month with 30 days is its last. */
			const last = new Date(year, month + 1, 0).getDate();
			return new Date(year, month, Math.min(day, last));
		};
		const here = at(from.getFullYear(), from.getMonth());
		const next = here > from ? here : at(from.getFullYear(), from.getMonth() + 1);

		return new Intl.DateTimeFormat(locale(), { day: 'numeric', month: 'short' }).format(next);
	}
});
