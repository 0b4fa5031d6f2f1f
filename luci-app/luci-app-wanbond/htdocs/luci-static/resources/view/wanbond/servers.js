'use strict';
'require view';
'require form';
'require wanbond.config as config';
'require wanbond.format as format';
'require wanbond.live as live';
'require wanbond.settings as settings';
'require wanbond.words as words';

/*
 * The servers, each by its pairing code. The first that works is used.
 */

/* What the daemon says of a server; older ones tell of the one in use only. */
function serverOf(status, name) {
	if (Array.isArray(status.servers))
		return status.servers.find(server => server.name == name);

	return status.server?.name == name ? Object.assign({ in_use: true }, status.server) : null;
}

return view.extend({
	load() {
		return settings.load();
	},

	render(readable) {
		if (!readable)
			return settings.denied(this);

		const m = new form.Map('wanbond', _('Servers'),
			_('Where the links are joined. With several, wanbond takes another when one does not answer. To check a pairing code before it is saved, use Setup.'));
		const s = settings.table(m, 'server', _('Add a server'), name => _('Server %s').format(name));
		const now = live.create();
		/* A cell of what `say(server)` has of a server. */
		const cell = (what, name, say) => now.cell(`${what} ${name}`, status => {
			const server = serverOf(status, name);
			return server ? say(server) : null;
		});
		let o;

		s.sortable = true;

		o = s.option(form.DummyValue, '_state', _('Now'));
		o.modalonly = false;
		o.textvalue = id => E('div', {}, [
			cell('state', id, server => words.serverState(server.state)), ' ',
			cell('use', id, server => server.in_use ? { text: _('in use'), tone: 'good' } : null),
			E('small', {}, [ ' ', cell('why', id, server => server.why) ])
		]);

		o = s.option(form.DummyValue, '_rtt', _('Round trip'));
		o.modalonly = false;
		o.textvalue = id => cell('rtt', id, server => server.rtt_ms != null ? format.ms(server.rtt_ms) : null);

		o = s.option(form.Value, 'code', _('Pairing code'), _('The server prints it: wanbond-setup add-router NAME. It is a secret.'));
		o.password = true;
		o.rmempty = false;
		o.modalonly = true;
		o.validate = (id, value) => config.checkCode(value);

		settings.enabled(s);

		return settings.render(m);
	}
});
