'use strict';
'require view';
'require form';
'require rpc';
'require uci';
'require wanbond.config as config';
'require wanbond.format as format';
'require wanbond.live as live';
'require wanbond.netifd as netifd';
'require wanbond.nodes as nodes';
'require wanbond.settings as settings';

/*
 * What goes another way than over the bond: devices, domains, ports, each by a rule. The first rule that fits decides.
 */

const callLeases = rpc.declare({ object: 'luci-rpc', method: 'getDHCPLeases', expect: { dhcp_leases: [] } });

/* By which a rule tells what it is for. */
const CRITERIA = [ 'mac', 'lan_device', 'source', 'destination', 'domain', 'protocol', 'port' ];

function list(section, option) {
	return [].concat(uci.get('wanbond', section, option) ?? []).flatMap(text => text.split(/\s+/)).filter(text => text);
}

/* An address or network, of either family. */
function checkPrefix(value) {
	const [ , address, length ] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(value) ?? [];
	const v4 = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(address ?? '');
	const isV4 = v4 != null && v4.slice(1).every(part => +part <= 255) && +(length ?? 32) <= 32;
	const isV6 = /^[0-9a-f:]*:[0-9a-f:.]*$/i.test(address ?? '') && +(length ?? 128) <= 128;

	return isV4 || isV6 || _('An address or a network, such as 192.168.1.50 or 192.0.2.0/24.');
}

return view.extend({
	load() {
		return Promise.all([ netifd.dump(), L.resolveDefault(callLeases(), []), settings.load() ]);
	},

	render([ networks, leases, readable ]) {
		if (!readable)
			return settings.denied(this);

		const m = new form.Map('wanbond', _('Bypass'),
			_('What does not go over the bond: a device, a service, a site. Rules are looked at from top to bottom; the first that fits decides.'));
		const s = settings.table(m, 'bypass', _('Add a rule'), name => _('Rule %s').format(name));
		const hosts = new Map(leases.filter(lease => lease.macaddr).map(lease =>
			[ lease.macaddr.toUpperCase(), '%s (%s)'.format(lease.hostname || lease.macaddr, lease.ipaddr) ]));

		s.sortable = true;
		this.now = live.create();
		this.columns(s, hosts);
		this.criteria(s, hosts, networks);
		this.way(s);

		return settings.render(m).then(node => E('div', {}, [ this.trouble(), node ]));
	},

	/* What keeps the rules from working, said above them. */
	trouble() {
		const said = E('p', { 'class': 'alert-message warning', 'role': 'status' });

		nodes.show(said, false);
		this.now.watch(status => {
			nodes.show(said, !!status.bypass?.problem);
			nodes.text(said, status.bypass?.problem ?? '');
		});

		return E('div', { 'class': 'wb' }, [ said ]);
	},

	/* What the table shows of a rule, in words. */
	columns(s, hosts) {
		let o = s.option(form.DummyValue, '_what', _('What'));

		o.modalonly = false;
		o.textvalue = id => {
			const parts = [
				...list(id, 'mac').map(mac => hosts.get(mac.toUpperCase()) ?? mac),
				...list(id, 'lan_device').map(name => _('network %s').format(name)),
				...list(id, 'source').map(prefix => _('from %s').format(prefix)),
				...list(id, 'destination').map(prefix => _('to %s').format(prefix)),
				...list(id, 'domain'),
				list(id, 'protocol').join('/').toUpperCase(),
				list(id, 'port').length ? _('port %s').format(list(id, 'port').join(', ')) : ''
			].filter(part => part);

			return E('span', {}, [ parts.join(' · ') || _('nothing yet') ]);
		};

		o = s.option(form.DummyValue, '_to', _('Goes'));
		o.modalonly = false;
		o.textvalue = id => {
			const to = uci.get('wanbond', id, 'to') ?? '';
			const word = { direct: _('directly'), tunnel: _('through the tunnel'), bond: _('over the bond') }[to];

			return E('span', {}, [ word ?? (to.startsWith('wan:') ? _('over %s').format(to.slice(4)) : '?') ]);
		};

		o = s.option(form.DummyValue, '_now', _('Now'));
		o.modalonly = false;
		o.textvalue = id => this.now.cell(id, status => {
			const rule = status.bypass?.rules?.find(other => other.name == id);

			return rule ? '%s, %s'.format(rule.now, N_(rule.connections, '%s connection', '%s connections').format(format.count(rule.connections))) : null;
		});
	},

	criteria(s, hosts, networks) {
		const lans = [ ...new Set([ ...uci.sections('wanbond', 'wanbond').flatMap(section => list(section['.name'], 'lan')), ...netifd.lans(networks) ]) ];
		let o;

		o = s.option(form.DynamicList, 'mac', _('Devices'), _('By hardware address: choose one of those that are here, or type it.'));
		o.modalonly = true;
		hosts.forEach((name, mac) => o.value(mac, name));
		o.validate = (id, value) => !value || /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(value) || _('A hardware address is such as 02:11:22:AA:BB:CC.');

		o = s.option(form.DynamicList, 'domain', _('Domains'), _('With all names below them, such as example.net. Not together with destinations.'));
		o.modalonly = true;
		o.placeholder = 'example.net';
		o.validate = (id, value) => !value || config.checkDomain(value);

		o = s.option(form.DynamicList, 'port', _('Destination ports'), _('Numbers or ranges, such as 443 or 5060-5070.'));
		o.modalonly = true;
		o.placeholder = '443';
		o.validate = (id, value) => !value || config.checkPorts(value);

		o = s.option(form.MultiValue, 'protocol', _('Protocols'));
		o.modalonly = true;
		[ 'tcp', 'udp', 'icmp', 'esp', 'gre', 'sctp' ].forEach(name => o.value(name, name.toUpperCase()));

		o = s.option(form.DynamicList, 'destination', _('Destinations'), _('Addresses or networks, such as 192.0.2.0/24.'));
		o.modalonly = true;
		o.validate = (id, value) => !value || checkPrefix(value);

		o = s.option(form.MultiValue, 'lan_device', _('Whole networks'), _('All that comes from them.'));
		o.modalonly = true;
		lans.forEach(name => o.value(name));

		o = s.option(form.DynamicList, 'source', _('Sources'), _('Hosts or networks of the LAN, by address.'));
		o.modalonly = true;
		o.validate = (id, value) => !value || checkPrefix(value);
	},

	way(s) {
		const wans = uci.sections('wanbond', 'wan').map(section => section['.name']);
		let o;

		o = s.option(form.ListValue, 'to', _('Goes'));
		o.modalonly = true;
		o.rmempty = false;
		o.value('direct', _('directly over the links that work, not bonded'));
		wans.forEach(name => o.value('wan:' + name, _('over %s only').format(name)));
		o.value('tunnel', _('through the tunnel, as packets'));
		o.value('bond', _('over the bond, as if there were no rule'));
		o.default = 'direct';
		o.validate = function(id) {
			const given = option => [].concat(this.section.formvalue(id, option) ?? []).filter(text => text !== '').length > 0;

			if (!CRITERIA.some(given))
				return _('The rule says nothing about what it is for. Fill in one of the fields above.');

			return !(given('domain') && given('destination')) || _('A rule has either domains or destinations. Make two rules.');
		};

		o = s.option(form.ListValue, 'fallback', _('While that link is down'));
		o.modalonly = true;
		o.value('bond', _('it goes over the bond'));
		o.value('none', _('it does not go at all'));
		o.default = 'bond';
		wans.forEach(name => o.depends('to', 'wan:' + name));

		settings.enabled(s);
	}
});
