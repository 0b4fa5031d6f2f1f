import assert from 'node:assert/strict';
import { test } from 'node:test';
import { load } from './load.mjs';

const netifd = load('wanbond.netifd');
const out = { route: [{ target: '0.0.0.0', mask: 0, nexthop: '192.0.2.1' }], 'ipv4-address': [{ address: '192.0.2.2' }], up: true };
const networks = [
	{ interface: 'loopback', proto: 'static', 'ipv4-address': [{ address: '127.0.0.1' }] },
	{ interface: 'lan', proto: 'static', l3_device: 'br-lan', 'ipv4-address': [{ address: '192.168.1.1' }], up: true },
	{ interface: 'wan', proto: 'dhcp', l3_device: 'eth1', metric: 10, ...out },
	{ interface: 'wan6', proto: 'dhcpv6', l3_device: 'eth1', route: [{ target: '::', mask: 0 }], up: true },
	{ interface: 'lte', proto: 'qmi', l3_device: 'wwan0', metric: 10, ...out },
	{ interface: 'stick', proto: 'mbim', up: false },
	{ interface: 'spare', proto: 'dhcp', l3_device: 'eth4', up: false },
];

test('links are what leads out, each device once, modems with a role that saves volume', () => {
	const links = netifd.links(networks);
	assert.deepEqual(links.map((link) => [link.name, link.device, link.role, link.up]), [
		['wan', 'eth1', 'bond', true], ['lte', 'wwan0', 'overflow', true], ['stick', '', 'overflow', false],
	]);
	assert.deepEqual(netifd.clashing(links), ['wan', 'lte']);
	assert.deepEqual(netifd.lans(networks), ['lan']);
});
