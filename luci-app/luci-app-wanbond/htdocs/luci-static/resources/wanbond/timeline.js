'use strict';
'require baseclass';
'require wanbond.format as format';
'require wanbond.nodes as nodes';

/*
 * What happened, newest first. What is worth a look is marked.
 */

const SHOWN = 12;

return baseclass.extend({
	/* An empty list as an object with `node` and `update(events, start)`; `start` is the daemon's start as a date. */
	create() {
		const list = E('ol', { 'class': 'wb-timeline' });
		const more = E('button', { 'class': 'btn cbi-button', 'type': 'button' }, [ _('Show all') ]);
		let all = false, last = [];

		const update = (events, start) => {
			const newest = events.slice().reverse();

			last = [ events, start ];
			nodes.show(more, !all && newest.length > SHOWN);
			nodes.keyed(list, all ? newest : newest.slice(0, SHOWN), event => event.seq, event => {
				const time = E('time');

				return {
					time,
					node: E('li', { 'data-level': event.level, 'data-kind': event.kind }, [ time, E('span', {}, [ event.message ]) ])
				};
			}, ({ time }, event) => {
				const date = start + event.at_s * 1000;

				nodes.text(time, format.clock(date));
				nodes.attr(time, 'datetime', new Date(date).toISOString());
			});
		};

		more.addEventListener('click', () => {
			all = true;
			update(...last);
		});

		return { node: E('div', {}, [ list, more ]), update };
	}
});
