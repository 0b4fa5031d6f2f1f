'use strict';
'require baseclass';
'require rpc';

/*
 * What netifd knows: which of its networks lead out, and which are the LAN's.
 */

const callDump = rpc.declare({ object: 'network.interface', method: 'dump', expect: { 'interface': [] } });

function hasDefaultRoute(network) {
	return (network.route ?? []).some(route => route.mask == 0 && (route.target == '0.0.0.0' || route.target == '::'));
}

function hasAddress(network) {
	return (network['ipv4-address'] ?? []).length > 0 || (network['ipv6-address'] ?? []).length > 0;
}

/* Networks over a modem are paid by volume, as a rule. */
const MODEM_PROTOCOLS = [ '3g', 'qmi', 'mbim', 'ncm', 'modemmanager', 'wwan', 'directip', 'huaweibdh', 'fm350' ];

function isMobile(network) {
	return MODEM_PROTOCOLS.includes(network.proto) || /^(wwan|rmnet|wwp)/.test(network.l3_device ?? '');
}

return baseclass.extend({
	/* All networks of netifd; none if it can't be asked. */
	dump() {
		return L.resolveDefault(callDump(), []);
	},

	/*
	 * The networks that lead to the Internet, IPv4 and IPv6 of the same device as one: [{ name, device, up, mobile,
	 * role, metric }]. The role is a proposal.
	 */
	links(networks) {
		const out = networks.filter(network => network.interface != 'loopback' && (hasDefaultRoute(network) || (isMobile(network) && !hasAddress(network))));
		const seen = new Set();

		return out.filter(network => {
			const device = network.l3_device ?? network.device ?? network.interface;
			const isNew = !seen.has(device);

			seen.add(device);
			return isNew;
		}).map(network => ({
			name: network.interface, device: network.l3_device ?? network.device ?? '', up: !!network.up,
			mobile: isMobile(network), role: isMobile(network) ? 'overflow' : 'bond', metric: network.metric ?? 0
		}));
	},

	/* The names of the networks that hosts are in: those with addresses that lead nowhere else. */
	lans(networks) {
		return networks
			.filter(network => network.interface != 'loopback' && network.proto == 'static' && hasAddress(network) && !hasDefaultRoute(network))
			.map(network => network.interface);
	},

	/* Names of links whose default routes stand in each other's way: netifd keeps one for each metric only. */
	clashing(links) {
		return links.filter(link => links.some(other => other != link && other.metric == link.metric)).map(link => link.name);
	}
});
