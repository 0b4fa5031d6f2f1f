'use strict';
'require baseclass';
'require wanbond.words as words';

/*
 * What is to be said of the whole bond in one sentence. Pure: a status document goes in, words come out.
 */

/* WANs that are meant to carry traffic, whether they do or not. */
function wanted(status) {
	return (status.wans ?? []).filter(wan => wan.role != 'off' && !words.isIdle(wan));
}

function meanwhile(status) {
	return status.when_server_down == 'block'
		? _('Until it is back nothing leaves this network, as you chose.')
		: _('Until it is back, connections leave directly over one link, not bonded.');
}

/* Servers that can't be used, and what to do about it. */
function serverTrouble(status, server) {
	const name = server.name || _('the server');

	switch (server.state) {
	case 'unknown_router':
		return {
			title: _('The server %s does not know this router.').format(name),
			detail: _('It was removed there, or the pairing code is an old one. Make a new code on the server and paste it in under Setup.')
		};
	case 'wrong_key':
		return {
			title: _('The server %s has another key than its pairing code says.').format(name),
			detail: _('It was set up anew, or someone answers in its place. Make a new code on the server and paste it in under Setup.')
		};
	case 'unresolved_name':
		return { title: _('The name of the server %s has no address at the moment.').format(name), detail: meanwhile(status) };
	case 'version_mismatch':
		return {
			title: _('The server %s runs another version of wanbond.').format(name),
			detail: _('Bring router and server to the same version.')
		};
	case 'no_wan':
		return { title: _('No link works at the moment.'), detail: _('As soon as one is back, the connection is made again by itself.') };
	default:
		return { title: _('The server %s does not answer.').format(name), detail: meanwhile(status) };
	}
}

return baseclass.extend({
	/*
	 * { state, tone, title, detail }. The state says which picture fits: `empty` nothing is set up, `off`,
	 * `connecting`, `server-down`, `degraded` it works with less than it could, `fine`.
	 */
	of(status) {
		const wans = status.wans ?? [];
		const server = status.server;

		if (!server && !wans.length && !status.enabled)
			return {
				state: 'empty', tone: 'idle',
				title: _('Nothing is set up yet.'),
				detail: _('Have the pairing code ready that your server printed. The rest takes two minutes.')
			};

		if (!status.enabled)
			return {
				state: 'off', tone: 'idle',
				title: _('wanbond is switched off.'),
				detail: _('All traffic leaves as it would without wanbond. Setup switches it on.')
			};

		if (!server)
			return { state: 'empty', tone: 'warn', title: _('There is no server yet.'), detail: _('Paste a pairing code under Setup.') };

		if (!wans.length)
			return { state: 'empty', tone: 'warn', title: _('There is no link yet.'), detail: _('Choose the links to bond under Setup.') };

		if (server.state == 'connecting')
			return {
				state: 'connecting', tone: 'busy',
				title: _('Connecting to the server %s …').format(server.name),
				detail: server.why || ''
			};

		if (server.state != 'connected')
			return Object.assign({ state: 'server-down', tone: 'bad' }, serverTrouble(status, server));

		return this.ofLinks(status);
	},

	/* The same while the server is connected. */
	ofLinks(status) {
		const lost = wanted(status).filter(wan => wan.state == 'down' || wan.state == 'probing');
		const bad = wanted(status).filter(wan => wan.state == 'degraded');
		const spent = wanted(status).filter(wan => wan.quota?.exhausted);
		const working = wanted(status).filter(wan => wan.state == 'up');
		const names = list => list.map(wan => wan.name).join(', ');
		const reason = list => list.length == 1 ? list[0].why : '';

		if (lost.length)
			return {
				state: 'degraded', tone: 'warn',
				title: N_(lost.length, '%s is down; the others carry everything.', '%s are down; the others carry everything.').format(names(lost)),
				detail: reason(lost)
			};

		if (bad.length)
			return {
				state: 'degraded', tone: 'warn',
				title: N_(bad.length, '%s is a bad line at the moment and is avoided.', '%s are bad lines at the moment and are avoided.').format(names(bad)),
				detail: reason(bad)
			};

		if (spent.length)
			return {
				state: 'degraded', tone: 'warn',
				title: _('The quota of %s is used up; it helps in an emergency only.').format(names(spent)),
				detail: ''
			};

		if (!working.length)
			return (status.wans ?? []).some(wan => wan.state == 'paused')
				? { state: 'degraded', tone: 'warn', title: _('Every link is paused.'), detail: _('Resume one, or nothing is carried.') }
				: { state: 'degraded', tone: 'warn', title: _('Every link is switched off.'), detail: _('Give one another role under WANs, or nothing is carried.') };

		return {
			state: 'fine', tone: 'good',
			title: working.length == 1
				? _('All is well. %s carries everything.').format(working[0].name)
				: N_(working.length, 'All is well. %d link works.', 'All is well. %d links work together.').format(working.length),
			detail: working.length == 1 && (status.wans ?? []).length == 1 ? _('With a second link there is something to bond.') : ''
		};
	},

	/* Now, over all WANs, in bits per second. */
	rates(status) {
		const sum = of => (status.wans ?? []).reduce((total, wan) => total + (wan[of] || 0), 0);

		return { rx: sum('rx_bps'), tx: sum('tx_bps') };
	}
});
