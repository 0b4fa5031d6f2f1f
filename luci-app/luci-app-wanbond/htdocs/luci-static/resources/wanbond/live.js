'use strict';
'require baseclass';
'require poll';
'require wanbond.api as api';
'require wanbond.card as card';
'require wanbond.nodes as nodes';

/*
 * Live cells in tables of settings: what the daemon says now of the section in that row.
 */

const INTERVAL_S = 3;

function show(made, status) {
	const said = status ? made.say(status) : null;
	const isState = typeof(said) == 'object' && said != null;

	nodes.show(made.state.node, isState);
	nodes.text(made.plain, isState ? '' : said ?? '');

	if (isState)
		made.state.update(said);
}

return baseclass.extend({
	/*
	 * A source, asked once for a whole page. `cell(key, say)` gives a node that is kept like `say(status)` has it:
	 * { text, tone }, or a text, or null for nothing known; a second one of that key takes the first one's place.
	 * `watch(told)` hears of each status.
	 */
	create() {
		const cells = new Map(), watchers = [];
		let last = null;

		const refresh = () => document.hidden ? Promise.resolve() : api.status().then(status => { last = status; }, () => { last = null; }).then(() => {
			cells.forEach(made => show(made, last));

			if (last)
				watchers.forEach(told => told(last));
		});

		poll.add(refresh, INTERVAL_S);
		refresh();

		return {
			cell(key, say) {
				const made = { say, state: card.badge(), plain: E('span') };

				cells.set(key, made);
				show(made, last);

				return E('span', {}, [ made.state.node, made.plain ]);
			},

			watch(told) {
				watchers.push(told);
			}
		};
	}
});
