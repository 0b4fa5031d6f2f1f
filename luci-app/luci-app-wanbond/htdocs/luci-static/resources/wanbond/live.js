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

return baseclass.extend({
	/*
	 * A source of cells: `cell(name)` gives a node, which is kept like `say(status, name)` has it: { text, tone }, or
	 * a text, or null for nothing known.
	 */
	create(say) {
		const cells = new Map();
		let last = null;

		const show = ({ state, plain }, name) => {
			const said = last ? say(last, name) : null;
			const isState = typeof(said) == 'object' && said != null;

			nodes.show(state.node, isState);
			nodes.text(plain, isState ? '' : said ?? '');

			if (isState)
				state.update(said);
		};

		const refresh = () => document.hidden ? Promise.resolve() : api.status().then(status => { last = status; }, () => { last = null; })
			.then(() => cells.forEach(show));

		poll.add(refresh, INTERVAL_S);
		refresh();

		return {
			cell(name) {
				const made = { state: card.badge(), plain: E('span') };

				cells.set(name, made);
				show(made, name);

				return E('span', {}, [ made.state.node, made.plain ]);
			}
		};
	}
});
