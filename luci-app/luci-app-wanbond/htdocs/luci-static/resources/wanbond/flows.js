'use strict';
'require baseclass';
'require wanbond.format as format';
'require wanbond.nodes as nodes';
'require wanbond.words as words';

/*
 * The flows of the LAN by the way they went, as bars, and what went wrong with some.
 */

return baseclass.extend({
	create() {
		const now = E('p');
		const list = E('ul', { 'class': 'wb-ways' });
		const wrong = E('p', { 'class': 'wb-small' });
		const why = E('p', { 'class': 'wb-small' });

		return {
			node: E('div', {}, [ now, list, why, wrong ]),
			update(status) {
				const flows = status.flows ?? {};
				const by = flows.by_way ?? {};
				const total = Math.max(1, words.ways().reduce((sum, way) => sum + (by[way.word] || 0), 0));
				const shown = words.ways().filter(way => by[way.word] > 0);

				nodes.text(now, _('%s connections open now, %s since the start.').format(format.count(flows.active ?? 0), format.count(flows.total ?? 0)));
				nodes.keyed(list, shown, way => way.word, way => {
					const bar = E('div'), count = E('span', { 'class': 'wb-count' });

					return { bar, count, node: E('li', {}, [ E('span', {}, [ way.text ]), E('div', { 'class': 'wb-meter' }, [ bar ]), count ]) };
				}, ({ bar, count }, way) => {
					bar.style.width = '%.1f%%'.format(by[way.word] / total * 100);
					nodes.text(count, format.count(by[way.word]));
				});
				nodes.show(why, !!status.streams_why);
				nodes.text(why, status.streams_why ? _('TCP goes through the tunnel: %s').format(status.streams_why) : '');

				const failures = [
					[ flows.refused_total, _('%s refused by their target') ],
					[ flows.unreachable_total, _('%s unreachable') ],
					[ flows.timed_out_total, _('%s without an answer') ],
					[ flows.reset_total, _('%s cut in the middle') ]
				].filter(([ count ]) => count > 0).map(([ count, text ]) => text.format(format.count(count)));

				nodes.show(wrong, failures.length > 0);
				nodes.text(wrong, failures.join(', '));
			}
		};
	}
});
