import assert from 'node:assert/strict';
import { test } from 'node:test';
import { load } from './load.mjs';

const format = load('wanbond.format');
// Figures and their units stay on one line.
const plain = (text) => text.replaceAll('\u00a0', ' ');

test('rates have the unit in which they are read best', () => {
	for (const [bps, text] of [
		[0, '0 bit/s'], [999, '999 bit/s'], [1000, '1.0 kbit/s'], [48_900_000, '48.9 Mbit/s'], [999_960_000, '1.0 Gbit/s'],
		[640_000, '640 kbit/s'], [100_000_000, '100 Mbit/s'], [99_960_000, '100 Mbit/s'], [-5, '0 bit/s'], [null, '–'], [NaN, '–'],
	])
		assert.equal(plain(format.rate(bps)), text);
	assert.equal(plain(format.rate(10_000_000, true)), '10 Mbit/s');
	assert.equal(plain(format.rate(2_500_000, true)), '2.5 Mbit/s');
});

test('volumes, times and shares', () => {
	assert.equal(plain(format.bytes(50e9)), '50 GB');
	assert.equal(plain(format.bytes(39.44e9)), '39.4 GB');
	assert.equal(plain(format.ms(0.84)), '0.8 ms');
	assert.equal(plain(format.ms(46.3)), '46 ms');
	assert.equal(format.ms(null), '–');
	assert.equal(plain(format.share(0.064)), '6 %');
	for (const [percent, text] of [[0, '0 %'], [0.04, '< 0.1 %'], [0.7, '0.7 %'], [9.96, '10 %'], [81, '81 %'], [undefined, '–']])
		assert.equal(plain(format.percent(percent)), text);
});

test('spans are said in their one or two largest units', () => {
	for (const [seconds, text] of [
		[0, '0 s'], [59.9, '59 s'], [60, '1 min'], [340, '5 min 40 s'], [3599, '59 min'], [3600, '1 h'], [7500, '2 h 5 min'],
		[86400, '1 d'], [3 * 86400 + 4 * 3600, '3 d 4 h'], [-3, '0 s'],
	])
		assert.equal(format.span(seconds), text);
});

test('a quota begins anew on its day, and on the last of short months', () => {
	const at = (...date) => new Date(...date).getTime();
	assert.equal(format.nextBillingDay(14, at(2026, 10, 13)), 'Nov 14');
	assert.equal(format.nextBillingDay(14, at(2026, 10, 14, 8)), 'Dec 14');
	assert.equal(format.nextBillingDay(31, at(2026, 1, 3)), 'Feb 28');
	assert.equal(format.nextBillingDay(1, at(2026, 11, 31)), 'Jan 1');
});
