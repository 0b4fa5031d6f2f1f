// L.network: netifd's networks and the hosts that are known.

import { Base } from './class.js';

const dump = L.rpc.declare({ object: 'network.interface', method: 'dump', expect: { interface: [] } });
const hints = L.rpc.declare({ object: 'luci-rpc', method: 'getHostHints', expect: { '': {} } });

const Protocol = Base.extend({
	__name__: 'network.Protocol',
	__init__(status) {
		this.status = status;
	},
	getName() {
		return this.status.interface;
	},
	getProtocol() {
		return this.status.proto;
	},
	getMetric() {
		return this.status.metric ?? 0;
	},
	isUp() {
		return this.status.up === true;
	},
	getUptime() {
		return this.status.uptime ?? 0;
	},
	getIPAddr() {
		return this.status['ipv4-address']?.[0]?.address ?? null;
	},
	getIPAddrs() {
		return (this.status['ipv4-address'] ?? []).map(({ address, mask }) => `${address}/${mask}`);
	},
	getGatewayAddr() {
		return this.status.route?.find(({ target, mask }) => target == '0.0.0.0' && mask == 0)?.nexthop ?? null;
	},
	getL3Device() {
		return this.status.l3_device ? { getName: () => this.status.l3_device } : null;
	},
	getDevice() {
		return this.status.device ? { getName: () => this.status.device } : null;
	},
});

const HostHints = Base.extend({
	__name__: 'network.Hosts',
	__init__(found) {
		this.hosts = found;
	},
	getMACHints() {
		return Object.entries(this.hosts).map(([ mac, host ]) => [ mac, host.name ?? host.ipaddrs?.[0] ?? '' ]);
	},
	getHostnameByMACAddr(mac) {
		return this.hosts[mac]?.name ?? null;
	},
	getIPAddrByMACAddr(mac) {
		return this.hosts[mac]?.ipaddrs?.[0] ?? null;
	},
});

export const Network = Base.extend({
	__name__: 'network',
	async getNetworks() {
		return (await dump()).map((status) => new Protocol(status));
	},
	async getNetwork(name) {
		return (await this.getNetworks()).find((network) => network.getName() == name) ?? null;
	},
	async getWANNetworks() {
		return (await this.getNetworks()).filter((network) => network.getGatewayAddr());
	},
	flushCache: () => Promise.resolve(),
	async getHostHints() {
		return new HostHints(await hints());
	},
});
