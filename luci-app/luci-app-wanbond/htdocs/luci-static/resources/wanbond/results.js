'use strict';
'require baseclass';
'require wanbond.format as format';

/*
 * What tasks came to, as nodes. Fields that an older or newer daemon does not send are left out.
 */

function row(head, ...cells) {
	return E('tr', { 'class': 'tr' }, [
		E('th', { 'class': 'td left', 'scope': 'row' }, [ head ]),
		...cells.map(text => E('td', { 'class': 'td' }, [ text ]))
	]);
}

function heads(...texts) {
	return E('tr', { 'class': 'tr table-titles' }, texts.map(text => E('th', { 'class': 'th', 'scope': 'col' }, [ text ])));
}

return baseclass.extend({
	/* A speed test: each link alone, then all together. */
	speedtest(result) {
		const wans = result.wans ?? [];
		const rows = wans.map(wan => wan.error || wan.why
			? row(wan.name, wan.error || wan.why, '')
			: row(wan.name, format.rate(wan.down_bps), format.rate(wan.up_bps)));

		if (result.together)
			rows.push(row(_('All together'), format.rate(result.together.down_bps), format.rate(result.together.up_bps)));

		return [ E('table', { 'class': 'table wb-figures' }, [ heads(_('Link'), _('Download'), _('Upload')), ...rows ]) ];
	},

	/* A drill: what connections felt while the link was away. */
	drill(result) {
		const facts = [
			[ _('Noticed after'), result.detected_after_ms, format.ms ],
			[ _('Longest silence of a connection'), result.longest_silence_ms, format.ms ],
			[ _('Connections that went on'), result.flows, format.count ],
			[ _('Connections lost'), result.flows_lost, format.count ],
			[ _('Back in use after'), result.back_after_ms, format.ms ]
		].filter(([ , value ]) => value != null);

		return [
			result.message ? E('p', { 'class': 'wb-outcome' }, [ result.message ]) : '',
			E('table', { 'class': 'table wb-figures' }, facts.map(([ name, value, say ]) => row(name, say.call(format, value))))
		].filter(node => node !== '');
	}
});
