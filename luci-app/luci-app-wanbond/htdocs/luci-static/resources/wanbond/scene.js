'use strict';
'require baseclass';
'require wanbond.nodes as nodes';
'require wanbond.palette as palette';
'require wanbond.words as words';

/*
 * The picture of the bond: the router at the left, a cord for each WAN, the server at the right. The same
 * picture shows what is wrong when something is: a cord that is cut, a server that is gone, a router that sleeps.
 */

const WIDTH = 320, HEIGHT = 120, MIDDLE = HEIGHT / 2;
const FROM = 66, TO = 254;

/* How thick a cord is: by what it carries, as a share of the most any carries. */
function thickness(share) {
	return (2 + 7 * Math.sqrt(Math.min(Math.max(share, 0), 1))).toFixed(1);
}

/* The cords leave the router at one point each, bulge, and meet again at the server. */
function cord(index, count) {
	const spread = Math.min(26, 92 / Math.max(count, 1));
	const y = MIDDLE + (index - (count - 1) / 2) * spread;
	const end = MIDDLE + (index - (count - 1) / 2) * Math.min(9, 30 / Math.max(count, 1));

	return {
		y,
		d: 'M%d %s C%d %s %d %s %d %s S%d %s %d %s'.format(
			FROM, end.toFixed(1), FROM + 32, end.toFixed(1), FROM + 36, y.toFixed(1), WIDTH / 2, y.toFixed(1),
			TO - 32, end.toFixed(1), TO, end.toFixed(1))
	};
}

function router() {
	return nodes.svg('g', { 'class': 'wb-scene-router' }, [
		nodes.svg('path', { d: 'M22 48l-6-22M58 48l6-22', 'class': 'wb-scene-thin' }),
		nodes.svg('rect', { x: 10, y: 46, width: 56, height: 30, rx: 6 }),
		nodes.svg('path', { d: 'M20 61h.01M29 61h.01M38 61h.01', 'class': 'wb-scene-lamps' })
	]);
}

function server() {
	const unit = y => nodes.svg('g', {}, [
		nodes.svg('rect', { x: 254, y, width: 54, height: 22, rx: 4 }),
		nodes.svg('path', { d: 'M264 %dh.01'.format(y + 11), 'class': 'wb-scene-lamps' }),
		nodes.svg('path', { d: 'M276 %dh22'.format(y + 11), 'class': 'wb-scene-thin' })
	]);

	return nodes.svg('g', { 'class': 'wb-scene-server' }, [ unit(24), unit(49), unit(74) ]);
}

/* A cross in a disc, where something is cut or gone. */
function cross(x, y) {
	return nodes.svg('g', { 'class': 'wb-scene-cross', transform: 'translate(%s %s)'.format(x, y) }, [
		nodes.svg('circle', { r: 9 }),
		nodes.svg('path', { d: 'M-3.5-3.5l7 7M3.5-3.5l-7 7' })
	]);
}

return baseclass.extend({
	/*
	 * A new picture, as { node, update(what) }. `what`: router `on`, `asleep`; server `on`, `gone`, `none`; cords
	 * [{ name, state: on, standby, trying, cut, off; share }].
	 */
	create(label) {
		const cords = nodes.svg('g');
		const gone = cross(281, 60);
		const zzz = nodes.svg('text', { x: 50, y: 34, 'class': 'wb-scene-zzz' }, [ 'z z' ]);
		const boxes = [ router(), server() ];
		const node = nodes.svg('svg', {
			'class': 'wb-scene', viewBox: '0 0 %d %d'.format(WIDTH, HEIGHT), role: 'img', 'aria-label': label
		}, [ cords, ...boxes, gone, zzz ]);

		return {
			node,
			update(what) {
				nodes.attr(node, 'data-router', what.router ?? 'on');
				nodes.attr(node, 'data-server', what.server ?? 'on');
				nodes.show(gone, what.server == 'gone');
				nodes.show(zzz, what.router == 'asleep');

				const items = what.cords.map((item, index) => Object.assign({ index, count: what.cords.length }, item));

				nodes.keyed(cords, items, item => item.name, () => {
					const line = nodes.svg('path', { 'class': 'wb-cord' });
					const cut = cross(WIDTH / 2, 0);

					return { node: nodes.svg('g', {}, [ line, cut ]), line, cut };
				}, (made, item) => {
					const { d, y } = cord(item.index, item.count);

					nodes.attr(made.line, 'd', d);
					nodes.attr(made.line, 'data-state', item.state);
					nodes.property(made.line, '--wan', palette.colour(item.index));
					nodes.attr(made.line, 'stroke-width', thickness(item.state == 'on' ? item.share ?? 0 : 0));
					nodes.attr(made.cut, 'transform', 'translate(%d %s)'.format(WIDTH / 2, y.toFixed(1)));
					nodes.show(made.cut, item.state == 'cut');
				});
			}
		};
	},

	/* The cords of a status document. */
	cords(status) {
		const most = Math.max(1, ...status.wans.map(wan => wan.rx_bps + wan.tx_bps));

		return status.wans.map(wan => ({
			name: wan.name,
			state: words.isIdle(wan) ? 'off'
				: wan.state == 'down' ? 'cut'
				: wan.state == 'probing' ? 'trying'
				: wan.standby ? 'standby' : 'on',
			share: (wan.rx_bps + wan.tx_bps) / most
		}));
	}
});
