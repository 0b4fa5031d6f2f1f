'use strict';
'require baseclass';
'require wanbond.format as format';
'require wanbond.graph as graph';
'require wanbond.nodes as nodes';
'require wanbond.palette as palette';

/*
 * The graph: download stacked upwards and upload stacked downwards per WAN, round trips and loss below, failovers
 * as marks across, all over one time axis. A cursor (pointer or arrow keys) reads any moment out into the legend.
 */

/* Pixels, from the top. */
const PAD = 14, DOWN = 130, UP = 64, GAP = 22, RTT = 64, LOSS = 34, AXIS = 20;
const ZERO = PAD + DOWN;
const RTT_TOP = ZERO + UP + GAP, RTT_END = RTT_TOP + RTT;
const LOSS_TOP = RTT_END + GAP, LOSS_END = LOSS_TOP + LOSS;
const HEIGHT = LOSS_END + AXIS;

/* Marks of events are at least so far apart. */
const MARK_GAP = 7;

/* Kinds of events that are marked. */
const MARKED = [ 'wan_state', 'server_state', 'reloaded', 'started' ];

/* A horizontal line, which lies below everything, and what it stands for, which lies above. */
function rule() {
	const line = nodes.svg('path', { 'class': 'wb-rule' });
	const text = nodes.svg('text', { 'class': 'wb-tick' });

	return {
		line, text,
		update(width, y, label) {
			nodes.attr(line, 'd', `M0 ${y.toFixed(1)}H${width}`);
			nodes.attr(text, 'x', width - 2);
			nodes.attr(text, 'y', (y - 3).toFixed(1));
			nodes.text(text, label);
		}
	};
}

function title(y, text) {
	return nodes.svg('text', { 'class': 'wb-strip', x: 2, y }, [ text ]);
}

function cell(text) {
	return E('td', { 'class': 'td' }, [ text ?? '' ]);
}

/* The legend is a table, which reads out the moment under the cursor. */
function legend() {
	const when = E('th', { 'class': 'th', 'scope': 'col' }, [ '' ]);
	const heads = [ _('Download'), _('Upload'), _('Round trip'), _('Loss') ];
	const body = E('tbody');
	const node = E('table', { 'class': 'table wb-legend' }, [
		E('thead', {}, [
			E('tr', { 'class': 'tr' }, [ when, ...heads.map(head => E('th', { 'class': 'th', 'scope': 'col' }, [ head ])) ])
		]),
		body
	]);

	return {
		node,
		update(moment, rows) {
			nodes.text(when, moment);
			nodes.keyed(body, rows, row => row.name, row => {
				const name = E('th', { 'class': 'td', 'scope': 'row' }, [ palette.mark(row.index), ' ', row.name ]);
				const cells = heads.map(() => cell());

				return { node: E('tr', { 'class': 'tr' }, [ name, ...cells ]), cells };
			}, (made, row) => {
				[ format.rate(row.rx), format.rate(row.tx), format.ms(row.rtt), format.percent(row.loss) ]
					.forEach((text, i) => nodes.text(made.cells[i], text));
			});
		}
	};
}

class Chart {
	constructor() {
		const layer = name => nodes.svg('g', { 'class': name });

		this.down = layer('wb-areas');
		this.up = layer('wb-areas');
		this.rtt = layer('wb-lines');
		this.loss = layer('wb-lines');
		this.marks = layer('wb-events');
		this.times = layer('wb-times');
		this.rules = { down: rule(), half: rule(), zero: rule(), up: rule(), rtt: rule(), rtt0: rule(), loss: rule(), loss0: rule() };
		this.cursor = nodes.svg('path', { 'class': 'wb-cursor', hidden: true });
		this.svg = nodes.svg('svg', {
			'class': 'wb-chart', height: HEIGHT, tabindex: 0, role: 'img',
			'aria-label': _('Throughput, round trip and loss of each link. Arrow keys move through time.')
		}, [
			...Object.values(this.rules).map(made => made.line),
			this.down, this.up, this.rtt, this.loss, this.marks, this.times,
			...Object.values(this.rules).map(made => made.text),
			title(PAD - 3, '↓ ' + _('Download')), title(ZERO + UP - 4, '↑ ' + _('Upload')),
			title(RTT_TOP - 4, _('Round trip')), title(LOSS_TOP - 4, _('Loss')),
			this.cursor
		]);
		this.legend = legend();
		/* Says what the cursor stands on, when it is moved by keys. */
		this.spoken = E('div', { 'class': 'wb-spoken', 'aria-live': 'polite' });
		this.node = E('div', { 'class': 'wb-graph' }, [ this.svg, this.spoken, this.legend.node ]);
		this.at = null;
		this.listen();
	}

	listen() {
		this.svg.addEventListener('pointermove', ev => this.moveTo(this.rowAt(ev.clientX - this.svg.getBoundingClientRect().left)));
		this.svg.addEventListener('pointerleave', () => this.moveTo(null));
		this.svg.addEventListener('blur', () => this.moveTo(null));
		this.svg.addEventListener('keydown', ev => {
			const last = (this.xs?.length ?? 0) - 1;
			const step = ev.shiftKey ? 10 : 1;
			const to = {
				ArrowLeft: Math.max(0, (this.at ?? last + 1) - step), ArrowRight: Math.min(last, (this.at ?? last) + step),
				Home: 0, End: last, Escape: null
			};

			if (last < 0 || !(ev.key in to))
				return;

			ev.preventDefault();
			this.moveTo(to[ev.key]);
			nodes.text(this.spoken, this.sentence());
		});

		if (window.ResizeObserver)
			new ResizeObserver(() => this.redraw()).observe(this.svg);
	}

	/*
	 * Draws a series: `wans` are the names in their order, `now` the daemon's clock in seconds, `span` how much of
	 * the past is shown, `start` the daemon's start as a date in milliseconds.
	 */
	draw(what) {
		this.what = what;
		this.redraw();
	}

	redraw() {
		const width = Math.floor(this.svg.clientWidth);

		if (!this.what || width < 40)
			return;

		const { series, wans, now, span } = this.what;
		const names = [ 'rx_bps', 'tx_bps', 'rtt_ms', 'loss_percent' ];
		const thin = graph.thin(series.t, names.flatMap(name => wans.map(wan => series.column(wan, name))), width / 2);
		const columns = at => thin.columns.slice(at * wans.length, (at + 1) * wans.length);

		this.width = width;
		this.t = thin.t;
		[ this.rx, this.tx, this.rtts, this.losses ] = [ 0, 1, 2, 3 ].map(columns);
		this.x = t => width * (1 - (now - t) / span);
		this.xs = thin.t.map(this.x);
		nodes.attr(this.svg, 'viewBox', `0 0 ${width} ${HEIGHT}`);
		this.drawRates();
		this.drawLines();
		this.drawTimes();
		this.drawEvents();

		if (this.at != null && this.at >= this.xs.length)
			this.at = null;

		this.drawCursor();
	}

	drawRates() {
		const down = graph.stack(this.rx), up = graph.stack(this.tx);
		const most = graph.nice(graph.top(down) * 1.05, 1e5), mostUp = graph.nice(graph.top(up) * 1.05, 1e5);
		const yDown = v => ZERO - v / most * DOWN, yUp = v => ZERO + v / mostUp * UP;

		this.rules.down.update(this.width, yDown(most), format.rate(most, true));
		this.rules.half.update(this.width, yDown(most / 2), format.rate(most / 2, true));
		this.rules.zero.update(this.width, ZERO, '');
		this.rules.up.update(this.width, yUp(mostUp), format.rate(mostUp, true));
		this.paths(this.down, i => graph.area(this.xs, down[i], yDown));
		this.paths(this.up, i => graph.area(this.xs, up[i], yUp));
	}

	drawLines() {
		const worst = columns => Math.max(0, ...columns.flat().filter(v => v != null));
		const rtt = graph.nice(worst(this.rtts) * 1.05, 20), loss = graph.nice(worst(this.losses), 2);
		const yRtt = v => RTT_END - v / rtt * RTT, yLoss = v => LOSS_END - Math.min(v, 100) / Math.min(loss, 100) * LOSS;

		this.rules.rtt.update(this.width, RTT_TOP, format.ms(rtt));
		this.rules.rtt0.update(this.width, RTT_END, '');
		this.rules.loss.update(this.width, LOSS_TOP, format.percent(Math.min(loss, 100)));
		this.rules.loss0.update(this.width, LOSS_END, '');
		this.paths(this.rtt, i => graph.line(this.xs, this.rtts[i], yRtt), true);
		this.paths(this.loss, i => graph.line(this.xs, this.losses[i], yLoss), true);
	}

	/* One path for each WAN. */
	paths(layer, path, dashed) {
		nodes.keyed(layer, this.what.wans.map((name, index) => ({ name, index })), wan => wan.name,
			() => ({ node: nodes.svg('path') }),
			({ node }, { index }) => {
				nodes.property(node, '--wan', palette.colour(index));
				nodes.attr(node, 'stroke-dasharray', dashed ? palette.dash(index) : null);
				nodes.attr(node, 'd', path(index));
			});
	}

	drawTimes() {
		const { now, span, start } = this.what;
		const date = t => start + t * 1000;
		const say = (at, step) => {
			const moment = new Date(at);
			const lang = document.documentElement.lang || 'en';

			return step >= 86400e3
				? moment.toLocaleDateString(lang, { weekday: 'short', day: 'numeric' })
				: moment.toLocaleTimeString(lang, { hourCycle: 'h23', hour: '2-digit', minute: '2-digit', second: step < 60e3 ? '2-digit' : undefined });
		};
		const ticks = graph.timeTicks(date(now - span), date(now), Math.max(2, this.width / 90), say);

		nodes.keyed(this.times, ticks, tick => tick.at, () => ({
			node: nodes.svg('text', { 'class': 'wb-time', y: HEIGHT - 5 })
		}), ({ node }, tick) => {
			const x = this.x((tick.at - start) / 1000);

			nodes.attr(node, 'x', x.toFixed(1));
			nodes.text(node, tick.text);
			/* Half a label at the edge can't be read. */
			nodes.show(node, x > 26 && x < this.width - 26);
		});
	}

	drawEvents() {
		const { events, now, span } = this.what;
		const shown = events.filter(event => MARKED.includes(event.kind) && event.at_s >= now - span && event.at_s <= now);

		nodes.keyed(this.marks, graph.marks(shown, this.x, MARK_GAP), mark => mark.events[0].seq, () => {
			const said = nodes.svg('title');

			return {
				said,
				node: nodes.svg('g', {}, [
					nodes.svg('path', { d: `M0 ${PAD - 8}V${LOSS_END}` }),
					nodes.svg('path', { d: `M0 ${PAD - 3}l-4.5-8h9z`, 'class': 'wb-event-head' }),
					said
				])
			};
		}, ({ node, said }, mark) => {
			nodes.attr(node, 'transform', `translate(${mark.x.toFixed(1)})`);
			nodes.attr(node, 'data-level', mark.grave ? 'warning' : 'info');
			nodes.text(said, mark.events.map(event => event.message).join('\n'));
		});
	}

	rowAt(x) {
		if (!this.xs?.length)
			return null;

		let best = 0;

		for (let i = 1; i < this.xs.length; i++)
			if (Math.abs(this.xs[i] - x) < Math.abs(this.xs[best] - x))
				best = i;

		return best;
	}

	moveTo(row) {
		this.at = row;

		if (this.xs)
			this.drawCursor();
	}

	drawCursor() {
		const last = this.xs.length - 1;
		const row = this.at ?? last;

		nodes.show(this.cursor, this.at != null);

		if (this.at != null)
			nodes.attr(this.cursor, 'd', `M${this.xs[row].toFixed(1)} ${PAD - 4}V${LOSS_END}`);

		this.legend.update(this.at == null && this.what.series.step == 1 ? _('Now') : this.moment(row), this.what.wans.map((name, index) => ({
			name, index,
			rx: this.rx[index][row], tx: this.tx[index][row], rtt: this.rtts[index][row], loss: this.losses[index][row]
		})));
	}

	moment(row) {
		return this.t[row] == null ? _('Now') : format.clock(this.what.start + this.t[row] * 1000);
	}

	/* What the cursor stands on, in words. */
	sentence() {
		if (this.at == null)
			return '';

		return [ this.moment(this.at), ...this.what.wans.map((name, i) => '%s: %s, %s, %s'.format(name,
			_('%s down').format(format.rate(this.rx[i][this.at])), _('%s up').format(format.rate(this.tx[i][this.at])),
			format.ms(this.rtts[i][this.at]))) ].join('. ');
	}
}

return baseclass.extend({
	/* An empty chart, as an object with `node` and `draw(what)`. */
	create() {
		return new Chart();
	}
});
