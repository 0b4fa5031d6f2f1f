'use strict';
'require baseclass';
'require wanbond.api as api';
'require wanbond.card as card';
'require wanbond.format as format';
'require wanbond.nodes as nodes';
'require wanbond.palette as palette';
'require wanbond.verdict as verdict';
'require wanbond.words as words';

/*
 * The box on LuCI's own overview page: one sentence, the rate, and a line for each WAN.
 */

function overview() {
	const sign = E('span', { 'class': 'wb-sign', 'aria-hidden': 'true' }), title = E('span');
	const said = E('a', { 'class': 'wb-said-short', 'href': L.url('admin/network/wanbond/status') }, [ sign, title ]);
	const down = card.rate('↓', _('Download')), up = card.rate('↑', _('Upload'));
	const links = E('tbody');
	const node = E('div', { 'class': 'wb wb-overview' }, [
		said,
		E('div', { 'class': 'wb-rates' }, [ down.node, up.node ]),
		E('table', { 'class': 'table wb-figures' }, [ links ])
	]);

	return {
		node,
		update(status) {
			const { tone, title: text } = verdict.of(status);
			const rates = verdict.rates(status);

			palette.dress(node);
			nodes.attr(said, 'data-tone', tone);
			nodes.text(sign, words.sign(tone));
			nodes.text(title, text);
			down.update(rates.rx);
			up.update(rates.tx);
			nodes.keyed(links, (status.wans ?? []).map((wan, index) => ({ wan, index })), ({ wan, index }) => '%d %s'.format(index, wan.name), ({ wan, index }) => {
				const state = card.badge(), rate = E('td', { 'class': 'td' }), rtt = E('td', { 'class': 'td' });

				return {
					state, rate, rtt,
					node: E('tr', { 'class': 'tr' }, [
						E('th', { 'class': 'td left', 'scope': 'row' }, [ palette.mark(index), ' ', wan.name ]),
						E('td', { 'class': 'td left' }, [ state.node ]), rate, rtt
					])
				};
			}, (made, { wan }) => {
				made.state.update(words.wanState(wan));
				nodes.text(made.rate, '↓ %s  ↑ %s'.format(format.rate(wan.rx_bps), format.rate(wan.tx_bps)));
				nodes.text(made.rtt, format.ms(wan.rtt_ms));
			});
		}
	};
}

return baseclass.extend({
	title: 'wanbond',

	/* Nothing to show where the daemon is not there, or this login may not see it. */
	load() {
		return palette.ready().then(() => api.status()).catch(() => null);
	},

	/* The same node each time, brought up to date: the overview page puts it where it already is. */
	render(status) {
		if (!status)
			return null;

		this.box ??= overview();
		this.box.update(status);

		return this.box.node;
	}
});
