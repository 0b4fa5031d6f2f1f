// The tests' own UCI: what it reads, writes and keeps apart.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, it } from 'node:test';

import { packaged } from './app.mjs';
import { format, parse, Uci } from './uci.mjs';

let folder, uci, written;
const allowed = () => true;
const call = (session, method, args) => uci.call(method, { ubus_rpc_session: session, ...args }, allowed);
const file = () => parse(readFileSync(path.join(folder, 'wanbond'), 'utf8'));

before(() => {
	folder = mkdtempSync(path.join(os.tmpdir(), 'wanbond-uci-'));
	writeFileSync(path.join(folder, 'wanbond'), packaged('etc/config/wanbond'));
	written = [];
	uci = new Uci(folder, (names) => written.push(...names));
});
after(() => rmSync(folder, { recursive: true }));

it('reads what UCI reads, and writes what it has read', () => {
	const text = 'config a \'x\' # word\n\toption one "t\\"wo"\n\tlist many a\n\tlist many \'b c\'\n\n# config b\nconfig b\n\toption quote \'it\'\\\'\'s\'\n';
	const [ x, anonymous ] = parse(text).values();
	assert.deepEqual([ x['.type'], x['.name'], x.one, x.many ], [ 'a', 'x', 't"wo', [ 'a', 'b c' ] ]);
	assert.deepEqual([ anonymous['.type'], anonymous['.anonymous'], anonymous.quote ], [ 'b', true, 'it\'s' ]);
	assert.deepEqual([ ...parse(format(parse(text))).values() ], [ ...parse(text).values() ]);
});

it('keeps what a session has changed to itself until it is applied', async () => {
	assert.deepEqual(await call('one', 'set', { config: 'wanbond', section: 'globals', values: { enabled: '1', lan: [ 'lan', 'guest' ] } }), [ 0 ]);
	assert.deepEqual(await call('one', 'add', { config: 'wanbond', type: 'wan', name: 'fibre', values: { interface: 'wan' } }), [ 0, { section: 'fibre' } ]);
	const seen = async (session) => (await call(session, 'get', { config: 'wanbond' }))[1].values;
	assert.equal((await seen('one')).globals.enabled, '1');
	assert.equal((await seen('two')).globals.enabled, '0');
	assert.equal(file().get('globals').enabled, '0');
	assert.deepEqual(await call('two', 'apply', { rollback: false }), [ 5 ]);
	assert.deepEqual(await call('one', 'apply', { rollback: true, timeout: 30 }), [ 0 ]);
	assert.deepEqual(await call('two', 'confirm', {}), [ 6 ]);
	assert.deepEqual(await call('one', 'confirm', {}), [ 0 ]);
	assert.deepEqual(file().get('globals').lan, [ 'lan', 'guest' ]);
	assert.deepEqual(written, [ 'wanbond' ]);
});

it('takes back what nobody has confirmed', async () => {
	await call('one', 'delete', { config: 'wanbond', section: 'fibre' });
	await call('one', 'apply', { rollback: true, timeout: 30 });
	assert.equal(file().has('fibre'), false);
	await call('one', 'rollback', {});
	assert.equal(file().get('fibre').interface, 'wan');
});

it('refuses what is not there, and names that are none', async () => {
	assert.deepEqual(await call('one', 'set', { config: 'nothing', section: 'x', values: {} }), [ 4 ]);
	assert.deepEqual(await call('one', 'get', { config: '../passwd' }), [ 2 ]);
	assert.deepEqual(await call('one', 'set', { config: 'wanbond', section: 'globals', values: { 'a b': '1' } }), [ 2 ]);
	assert.deepEqual(await uci.call('set', { config: 'wanbond', section: 'globals', values: {} }, () => false), [ 6 ]);
});
