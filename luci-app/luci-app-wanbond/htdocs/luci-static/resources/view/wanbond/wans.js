'use strict';
'require view';
'require form';
'require uci';
'require wanbond.config as config';
'require wanbond.format as format';
'require wanbond.live as live';
'require wanbond.netifd as netifd';
'require wanbond.settings as settings';
'require wanbond.words as words';

/*
 * The links and what each may do, and what goes for all of them.
 */

return view.extend({
	load() {
		return Promise.all([ netifd.dump(), settings.load() ]);
	},

	render([ networks, readable ]) {
		if (!readable)
			return settings.denied(this);

		const m = new form.Map('wanbond', _('WANs'),
			_('Each link to the Internet, and when it is used. Changes are taken over at once; open connections go on.'));

		this.links(m, networks);
		this.everything(m, networks);

		return settings.render(m);
	},

	links(m, networks) {
		const s = settings.table(m, 'wan', _('Add a link'), name => _('Link %s').format(name));
		const now = live.create();
		const wan = (status, name) => (status.wans ?? []).find(other => other.name == name);
		const state = name => now.cell('state ' + name, status => {
			const found = wan(status, name);
			return found ? words.wanState(found) : null;
		});
		const used = name => now.cell('used ' + name, status => {
			const quota = wan(status, name)?.quota;
			return quota ? _('%s of %s used').format(format.bytes(quota.used_bytes), format.bytes(quota.limit_bytes)) : null;
		});
		let o;


		o = s.option(form.ListValue, 'interface', _('Interface'), _('One of Network, Interfaces. It needs a default route and a metric of its own.'));
		netifd.links(networks).forEach(link => o.value(link.name, link.device && link.device != link.name ? '%s (%s)'.format(link.name, link.device) : link.name));
		uci.sections('wanbond', 'wan').forEach(section => {
			if (section.interface && !networks.some(network => network.interface == section.interface))
				o.value(section.interface, _('%s (not there now)').format(section.interface));
		});

		if (uci.sections('wanbond', 'wan').some(section => section.device)) {
			o.value('', _('(a device)'));
			o.optional = true;

			o = s.option(form.Value, 'device', _('Device'), _('In place of an interface.'));
			o.depends('interface', '');
			o.modalonly = true;
		}

		o = s.option(form.ListValue, 'role', _('Role'));
		words.roles().forEach(role => o.value(role.word, '%s: %s'.format(role.text, role.hint)));
		o.default = 'bond';
		o.textvalue = id => words.role(uci.get('wanbond', id, 'role') ?? 'bond');

		o = s.option(form.Value, 'quota', _('Quota a month'), _('In both directions together, such as 50 GB. Once it is used up the link helps in an emergency only. Empty: no limit.'));
		o.placeholder = _('no limit');
		o.validate = (id, value) => !value || config.checkQuota(value);
		o.textvalue = id => E('div', {}, [ uci.get('wanbond', id, 'quota') ?? _('no limit'), ' ', E('small', {}, [ used(id) ]) ]);

		o = s.option(form.Value, 'billing_day', _('Billing day'), _('The day of the month on which the quota begins anew.'));
		o.placeholder = '1';
		o.modalonly = true;
		o.validate = (id, value) => !value || (/^\d+$/.test(value) && +value >= 1 && +value <= 31) || _('A day of the month is a number from 1 to 31.');

		settings.enabled(s);

		o = s.option(form.DummyValue, '_state', _('Now'));
		o.modalonly = false;
		o.textvalue = id => state(id);
	},

	everything(m, networks) {
		const s = m.section(form.TypedSection, 'wanbond', _('For all links'));
		let o;

		s.anonymous = true;
		s.addremove = false;

		o = settings.named(s.option(form.Flag, 'enabled', _('Bond the links'), _('Off: all traffic leaves as it would without wanbond.')),
			() => _('Bond the links'));
		o.default = '0';
		o.rmempty = false;

		o = s.option(form.MultiValue, 'lan', _('Networks'), _('Whose traffic is bonded.'));
		const names = uci.sections('wanbond', 'wanbond').flatMap(section => [].concat(section.lan ?? []));
		[ ...new Set([ ...netifd.lans(networks), ...names ]) ].forEach(name => o.value(name));

		o = s.option(form.ListValue, 'tcp', _('TCP goes by'));
		o.value('auto', _('the best way that works (recommended)'));
		o.value('mptcp', _('multipath TCP only'));
		o.value('stream', _('streams inside the tunnel'));
		o.value('packet', _('packets through the tunnel'));
		o.default = 'auto';

		o = s.option(form.ListValue, 'dns', _('Name servers'), _('How the router\'s own questions to name servers go, which it asks for the whole LAN.'));
		o.value('bond', _('over the bond'));
		o.value('direct', _('directly'));
		o.default = 'bond';

		o = s.option(form.ListValue, 'when_server_down', _('Without a server'), _('What happens while no server can be reached.'));
		o.value('direct', _('traffic leaves directly over one link, not bonded'));
		o.value('block', _('nothing leaves, so that nothing ever goes around the server'));
		o.default = 'direct';
	}
});
