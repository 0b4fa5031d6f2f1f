import assert from 'node:assert/strict';
import { test } from 'node:test';
import { load } from './load.mjs';

const config = load('wanbond.config');
const section = (type, name, more) => ({ '.type': type, '.name': name, ...more });
const code = `wanbond1:${'A'.repeat(100)}`;

test('a fresh configuration is filled', () => {
	const wish = { code, lans: ['lan'], links: [{ interface: 'wan', use: true, role: 'bond' }, { interface: 'wan-6.1', use: true, role: 'overflow' }, { interface: 'wwan', use: false, role: 'bond' }] };
	assert.deepEqual(config.plan([section('wanbond', 'globals', { enabled: '0', lan: ['lan'] })], wish), [
		{ add: 'server', name: 'vps' }, { set: 'vps', option: 'code', value: code },
		{ add: 'wan', name: 'wan' }, { set: 'wan', option: 'interface', value: 'wan' },
		{ add: 'wan', name: 'wan_6_1' }, { set: 'wan_6_1', option: 'interface', value: 'wan-6.1' }, { set: 'wan_6_1', option: 'role', value: 'overflow' },
		{ set: 'globals', option: 'enabled', value: '1' },
	]);
	assert.deepEqual(config.plan([], { code: '', lans: ['lan'], links: [] })[0], { add: 'wanbond', name: 'globals' });
});

test('what is there is kept: the server without a new code, quotas of links that are left out', () => {
	const sections = [
		section('wanbond', 'globals', { enabled: '1', lan: 'lan' }), section('server', 'vps', { code }),
		section('wan', 'fibre', { interface: 'wan', role: 'backup' }), section('wan', 'lte', { device: 'wwan0', quota: '5 GB' }), section('wan', 'old', { interface: 'b', enabled: '0' }),
	];
	const links = [{ interface: 'wan', use: true, role: 'bond' }, { device: 'wwan0', use: false, role: 'bond' }, { interface: 'b', use: true, role: 'bond' }];
	assert.deepEqual(config.plan(sections, { code: '', lans: ['lan'], links }), [
		{ set: 'fibre', option: 'role', value: 'bond' }, { set: 'lte', option: 'enabled', value: '0' }, { unset: 'old', option: 'enabled' },
	]);
});

test('a new code replaces the only server, and is one more beside several', () => {
	const globals = section('wanbond', 'globals', { enabled: '1', lan: ['lan'] });
	const wish = { code, lans: ['lan'], links: [] };
	assert.deepEqual(config.plan([globals, section('server', 'a', { code: 'x', enabled: '0' })], wish), [{ unset: 'a', option: 'enabled' }, { set: 'a', option: 'code', value: code }]);
	assert.deepEqual(config.plan([globals, section('server', 'a'), section('server', 'vps')], wish)[0], { add: 'server', name: 'vps2' });
	assert.deepEqual(config.plan([globals, section('server', 'a'), section('server', 'b', { code })], wish), []);
});

test('checks tell what is right', () => {
	assert.equal(config.checkCode(code), true);
	assert.equal(config.cleanCode(` wanb\nond1:AB CD\t`), 'wanbond1:ABCD');
	assert.match(config.checkCode('hello'), /begins with/);
	assert.match(config.checkCode('wanbond1:AAAA'), /cut off/);
	assert.match(config.checkCode('wanbond1:A+/='), /letters, digits/);
	for (const quota of ['50 GB', '1.5TB', '500', '20 GiB', '5 gb'])
		assert.equal(config.checkQuota(quota), true, quota);
	for (const quota of ['', 'GB', '-5 GB', '5 XB', '1. GB'])
		assert.match(config.checkQuota(quota), /such as/, quota);
	for (const port of ['1', '443', '5060-5070', '65535'])
		assert.equal(config.checkPorts(port), true, port);
	for (const port of ['0', '65536', '80-', '90-80', 'http'])
		assert.match(config.checkPorts(port), /from 1 to 65535/, port);
	assert.equal(config.checkDomain('example.net'), true);
	assert.match(config.checkDomain('*.example.net'), /meant anyway/);
	assert.match(config.checkDomain('exa mple'), /such as/);
});
