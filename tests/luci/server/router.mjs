// Objects that LuCI's packages and others have on a router's bus, as far as the views call them.

import { readFileSync } from 'node:fs';

export class RouterObjects {
	/** { object: { method: (args) => [status, answer] } } */
	objects;

	constructor(lab) {
		const network = ({ interface: name, l3_device: device, 'ipv4-address': [ { address } ] }) => ({ name, device, address });
		const networks = lab.where.networks.map(network);
		this.objects = {
			system: {
				board: () => [ 0, { hostname: 'router', model: 'lab', release: { distribution: 'OpenWrt', version: '24.10' } } ],
				info: () => [ 0, { uptime: 100, localtime: Math.floor(Date.now() / 1000) } ],
			},
			luci: { getFeatures: () => [ 0, { firewall: true, firewall4: true, ipv6: true, dhcpv6: true } ] },
			'luci-rpc': {
				getBoardJSON: () => [ 0, {} ],
				getHostHints: () => [ 0, { '02:00:00:00:00:0a': { name: 'laptop', ipaddrs: [ '192.168.77.10' ], ip6addrs: [] } } ],
				getDHCPLeases: () => [ 0, {
					dhcp_leases: [ { expires: 3600, hostname: 'laptop', macaddr: '02:00:00:00:00:0A', ipaddr: '192.168.77.10' } ],
					dhcp6_leases: [],
				} ],
				getNetworkDevices: () => [ 0, Object.fromEntries(networks.map(({ device, address }) => [ device, {
					name: device, devtype: device == 'lo' ? 'loopback' : 'ethernet', up: true, type: 1,
					ipaddrs: [ { address, netmask: '255.255.255.0' } ], ip6addrs: [], stats: {}, flags: { up: true },
				} ])) ],
			},
			log: {
				read: ({ lines = 100 }) => [ 0, { log: daemonLog(lab.where.log, lines) } ],
			},
		};
	}
}

/** The daemon's own log, in logd's form. */
function daemonLog(file, lines) {
	const text = readFileSync(file, 'utf8').trimEnd().split('\n').slice(-lines);
	return text.map((msg, id) => ({ msg: `wanbond[1]: ${msg}`, id, priority: 30, source: 1, time: Date.now() }));
}
