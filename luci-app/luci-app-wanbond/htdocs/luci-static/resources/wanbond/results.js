'use strict';
'require baseclass';
'require wanbond.format as format';

/*
 * What tasks came to, as nodes. Fields that an older or newer daemon does not send are left out.
 */

function table(heads, rows) {
	const head = E('tr', { 'class': 'tr table-titles' }, heads.map(text => E('th', { 'class': 'th', 'scope': 'col' }, [ text ])));
	const body = rows.map(([ name, ...cells ]) => E('tr', { 'class': 'tr' }, [
		E('th', { 'class': 'td left', 'scope': 'row' }, [ name ]),
		...cells.map(text => E('td', { 'class': 'td' }, [ text ]))
	]));

	return E('table', { 'class': 'table wb-figures' }, heads.length ? [ head, ...body ] : body);
}

function note(text) {
	return E('p', { 'class': 'wb-small' }, [ text ]);
}

/* Round trips without load and under it: what a full line does to calls and games. */
function trips(speed) {
	return speed.rtt_loaded_ms != null
		? '%s → %s'.format(format.ms(speed.rtt_ms), format.ms(speed.rtt_loaded_ms))
		: format.ms(speed.rtt_ms);
}

/* Connections of a drill, by what they do. */
function probeName(kind) {
	const names = { lane: _('Small questions by multipath TCP'), stream: _('Small questions through the tunnel'), download: _('A download') };

	return names[kind] ?? kind;
}

return baseclass.extend({
	/* A speed test: each link alone, then all together. */
	speedtest(result) {
		const speed = (name, found) => found.down_bps == null && found.up_bps == null
			? [ name, '', '', found.why || format.none ]
			: [ name, format.rate(found.down_bps), format.rate(found.up_bps), trips(found) ];
		const rows = (result.wans ?? []).map(wan => speed(wan.name, wan));

		if (result.together)
			rows.push(speed(_('All together'), result.together));

		return [
			table([ _('Link'), _('Download'), _('Upload'), _('Round trip, idle → busy') ], rows),
			...(result.used_bytes > 0 ? [ note(_('The test moved %s.').format(format.bytes(result.used_bytes))) ] : [])
		];
	},

	/* A drill: what connections felt while the link was away. */
	drill(result) {
		const facts = [
			[ _('Noticed after'), result.detected_after_ms, format.ms ],
			[ _('Longest silence of a connection'), result.longest_silence_ms, format.ms ],
			[ _('Connections that went on'), result.flows, format.count ],
			[ _('Connections lost'), result.flows_lost, format.count ],
			[ _('Packets of the LAN lost in the tunnel'), result.lost, format.count ],
			[ _('Back in use after'), result.back_after_ms, format.ms ]
		].filter(([ , value ]) => value != null).map(([ name, value, say ]) => [ name, say.call(format, value) ]);
		const probes = (result.probes ?? []).map(probe => [
			probeName(probe.kind), format.ms(probe.usual_silence_ms), probe.broken ? _('broke') : format.ms(probe.longest_silence_ms)
		]);

		return [
			...(result.message ? [ E('p', {}, [ result.message ]) ] : []),
			table([], facts),
			...(probes.length ? [ table([ _('Longest silence'), _('before'), _('during the cut') ], probes) ] : []),
			...(result.used_bytes > 0 ? [ note(_('The drill moved %s.').format(format.bytes(result.used_bytes))) ] : [])
		];
	}
});
