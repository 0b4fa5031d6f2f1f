'use strict';
'require baseclass';
'require wanbond.nodes as nodes';
'require wanbond.scene as scene';

/*
 * What stands on a page in place of its content: a picture, a sentence, and the way on. There is one for each
 * state in which there is nothing else to show.
 */

const CORDS = [ { name: '1', state: 'off' }, { name: '2', state: 'off' }, { name: '3', state: 'off' } ];

/* The picture, the words and the ways on of each state. */
const STATES = {
	loading: () => ({
		picture: { router: 'on', server: 'on', cords: CORDS.map(cord => Object.assign({}, cord, { state: 'trying' })) },
		title: _('Asking the router …'), detail: ''
	}),
	empty: () => ({
		picture: { router: 'on', server: 'none', cords: [] },
		title: _('Nothing is set up yet.'),
		detail: _('Have the pairing code ready that your server printed. The rest takes two minutes.'),
		to: [ 'setup', _('Set up wanbond') ]
	}),
	off: () => ({
		picture: { router: 'asleep', server: 'on', cords: CORDS },
		title: _('wanbond is switched off.'),
		detail: _('All traffic leaves as it would without wanbond. Setup switches it on.'),
		to: [ 'setup', _('Switch it on') ]
	}),
	daemon: () => ({
		picture: { router: 'asleep', server: 'on', cords: CORDS },
		title: _('The wanbond service is not running.'),
		detail: _('Traffic leaves as it would without wanbond. Start the service under System, Startup; why it stopped is in the system log. This page goes on by itself as soon as it runs.'),
		link: [ L.url('admin/system/startup'), _('Go to Startup') ]
	}),
	network: () => ({
		picture: { router: 'gone', server: 'on', cords: CORDS },
		title: _('The router does not answer.'),
		detail: _('Trying again every two seconds. If the router restarts, this takes a minute or two.')
	}),
	denied: () => ({
		picture: { router: 'on', server: 'on', cords: CORDS },
		title: _('This login may not see this.'),
		detail: _('It takes the right “%s” in the access list of its user.').format('luci-app-wanbond-status')
	}),
	newer: () => ({
		picture: { router: 'on', server: 'on', cords: CORDS },
		title: _('The wanbond service on this router is too old for this page.'),
		detail: _('Update the package wanbond to the version of luci-app-wanbond.')
	})
};

return baseclass.extend({
	/* A panel as an object with `node` and `show(state)`; null shows nothing. `more` may give title and detail. */
	create() {
		const picture = scene.create('');
		const title = E('h3'), detail = E('p');
		const on = E('a', { 'class': 'btn cbi-button cbi-button-action important' });
		const node = E('section', { 'class': 'wb-panel', 'role': 'status', 'hidden': '' }, [ picture.node, title, detail, on ]);

		picture.node.setAttribute('aria-hidden', 'true');

		return {
			node,
			show(state, more) {
				nodes.show(node, state != null);

				if (state == null)
					return;

				const what = Object.assign((STATES[state] ?? STATES.network)(), more);
				const way = what.to ? [ L.url('admin/network/wanbond', what.to[0]), what.to[1] ] : what.link;

				nodes.attr(node, 'data-state', state);
				picture.update(what.picture);
				nodes.text(title, what.title);
				nodes.text(detail, what.detail);
				nodes.show(on, !!way);
				nodes.attr(on, 'href', way?.[0]);
				nodes.text(on, way?.[1] ?? '');
			}
		};
	}
});
