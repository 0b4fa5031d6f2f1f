'use strict';
'require baseclass';
'require wanbond.card as card';
'require wanbond.format as format';
'require wanbond.nodes as nodes';
'require wanbond.scene as scene';
'require wanbond.verdict as verdict';
'require wanbond.words as words';

/*
 * The bond first: what is to be said of it in one sentence, how fast it is now, over which server.
 */

return baseclass.extend({
	/* As an object with `node` and `update(status)`. */
	create() {
		const sign = E('span', { 'class': 'wb-sign', 'aria-hidden': 'true' });
		/* Said aloud when it changes, and only then. */
		const title = E('span', { 'role': 'status' }), detail = E('p', { 'class': 'wb-why' });
		const down = card.rate('↓', _('Download')), up = card.rate('↑', _('Upload'));
		const server = E('p', { 'class': 'wb-small' });
		const problem = E('p', { 'class': 'alert-message warning wb-problem' });
		const picture = scene.create(_('The links between this router and its server'));
		const node = E('section', { 'class': 'wb-hero' }, [
			E('div', { 'class': 'wb-hero-text' }, [
				E('h3', { 'class': 'wb-verdict' }, [ sign, title ]),
				detail, problem,
				E('div', { 'class': 'wb-rates' }, [ down.node, up.node ]),
				server
			]),
			picture.node
		]);

		return {
			node,
			update(status) {
				const said = verdict.of(status);
				const rates = verdict.rates(status);
				const link = status.server;

				nodes.attr(node, 'data-tone', said.tone);
				nodes.text(sign, words.sign(said.tone));
				nodes.text(title, said.title);
				nodes.show(detail, !!said.detail);
				nodes.text(detail, said.detail);
				nodes.show(problem, !!status.problem);
				nodes.text(problem, status.problem ? _('The configuration has a mistake, so what was right before stays in use. %s').format(status.problem) : '');
				down.update(rates.rx);
				up.update(rates.tx);
				nodes.text(server, link ? this.serverLine(link, status) : '');
				picture.update({
					router: 'on', server: link && link.state == 'connected' ? 'on' : link?.state == 'connecting' ? 'none' : 'gone',
					cords: scene.cords(status)
				});
			},

			serverLine(link, status) {
				const state = words.serverState(link.state).text;
				const parts = [
					_('Server %s').format(link.name || link.endpoint),
					'%s %s'.format(state, format.span(status.uptime_s - link.since_s))
				];

				if (link.rtt_ms != null)
					parts.push(_('round trip %s').format(format.ms(link.rtt_ms)));

				if (link.endpoint && link.endpoint != link.name)
					parts.push(link.endpoint);

				if (link.cipher)
					parts.push(link.cipher);

				return parts.join(' · ');
			}
		};
	}
});
