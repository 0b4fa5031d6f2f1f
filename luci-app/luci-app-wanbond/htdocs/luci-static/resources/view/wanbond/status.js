'use strict';
'require view';
'require poll';
'require wanbond.api as api';
'require wanbond.card as card';
'require wanbond.chart as chart';
'require wanbond.flows as flows';
'require wanbond.hero as hero';
'require wanbond.nodes as nodes';
'require wanbond.palette as palette';
'require wanbond.panel as panel';
'require wanbond.series as series';
'require wanbond.timeline as timeline';
'require wanbond.verdict as verdict';

/*
 * The home page. One call in each poll brings everything that is shown; the past is asked for when a range is
 * chosen, and again only as often as its steps are long.
 */

const INTERVAL_S = 2;

const RANGES = [
	{ span: 120, text: () => _('2 min') },
	{ span: 3600, text: () => _('1 h') },
	{ span: 86400, text: () => _('1 day') },
	{ span: 7 * 86400, text: () => _('7 days') }
];

function section(title, ...children) {
	return E('section', { 'class': 'wb-section' }, [ E('h3', {}, [ title ]), ...children ]);
}

return view.extend({
	handleSaveApply: null,
	handleSave: null,
	handleReset: null,

	load() {
		return palette.ready();
	},

	render() {
		this.writable = !!L.hasViewPermission();
		this.range = RANGES[0];
		this.past = series.create(this.range.span);
		this.panel = panel.create();
		this.hero = hero.create();
		this.cards = E('div', { 'class': 'wb-cards' });
		this.chart = chart.create();
		this.flows = flows.create();
		this.timeline = timeline.create();
		this.stale = E('p', { 'class': 'alert-message warning', 'role': 'status', 'hidden': '' });
		this.content = E('div', { 'hidden': '' }, [
			this.hero.node,
			this.cards,
			section(_('Throughput'), this.ranges(), this.chart.node),
			E('div', { 'class': 'wb-two' }, [
				section(_('Connections'), this.flows.node),
				section(_('What happened'), this.timeline.node)
			])
		]);
		this.root = E('div', { 'class': 'wb' }, [ E('h2', { 'class': 'wb-spoken' }, [ 'wanbond' ]), this.stale, this.panel.node, this.content ]);
		this.panel.show('loading');
		palette.dress(this.root);
		poll.add(() => this.refresh(), INTERVAL_S);
		this.refresh();

		return this.root;
	},

	ranges() {
		const buttons = RANGES.map(range => {
			const button = E('button', { 'class': 'btn cbi-button', 'type': 'button', 'aria-pressed': String(range == this.range) }, [ range.text() ]);

			button.addEventListener('click', () => {
				this.range = range;
				this.past = series.create(range.span);
				this.loadedAt = null;
				buttons.forEach((other, i) => nodes.attr(other, 'aria-pressed', String(RANGES[i] == range)));
				this.refresh();
			});

			return button;
		});

		return E('div', { 'class': 'wb-ranges', 'role': 'group', 'aria-label': _('Time shown') }, buttons);
	},

	/* Asks and shows. Never rejects, and asks nothing while nobody looks. */
	refresh() {
		if (document.hidden && this.status)
			return Promise.resolve();

		return api.status().then(status => this.show(status), error => this.showFailure(error));
	},

	show(status) {
		status.wans ??= [];
		status.events ??= [];

		const { state, title, detail } = verdict.of(status);
		const nothing = [ 'empty', 'off' ].includes(state);

		this.status = status;
		this.start = Date.now() - status.uptime_s * 1000;
		this.failedSince = null;
		palette.dress(this.root);
		nodes.show(this.stale, false);
		this.root.classList.remove('wb-stale');
		this.panel.show(nothing ? state : null, status.problem
			? { title: _('The configuration has a mistake.'), detail: status.problem }
			: { title, detail });
		nodes.show(this.content, !nothing);

		if (nothing)
			return;

		this.hero.update(status);
		nodes.keyed(this.cards, status.wans.map((wan, index) => ({ wan, index })), ({ wan, index }) => '%d %s'.format(index, wan.name),
			({ wan, index }) => card.create(wan.name, index, this.writable, () => this.refresh()),
			(made, { wan }) => made.update(wan, status));
		this.flows.update(status);
		this.timeline.update(status.events, this.start);

		return this.remember(status);
	},

	/* Brings the graph up to date. */
	remember(status) {
		const loaded = this.needsPast(status) ? this.loadPast(status) : Promise.resolve();

		return loaded.then(() => {
			/* Coarse steps are means; a single moment does not fit in with them. */
			if (this.past.step == 1)
				this.past.append(status);

			this.chart.draw({
				series: this.past, wans: status.wans.map(wan => wan.name), now: Math.max(status.uptime_s, this.past.t[this.past.t.length - 1] ?? 0),
				span: this.range.span, start: this.start, events: status.events
			});
		});
	},

	needsPast(status) {
		if (this.loadedAt == null || status.uptime_s < this.loadedAt)
			return true;

		return this.past.step == 1
			? this.past.t.length > 0 && !this.past.continuedBy(status)
			: status.uptime_s - this.loadedAt >= Math.max(30, this.past.step);
	},

	/* One history for each WAN; they travel in one HTTP request. */
	loadPast(status) {
		const past = this.past;

		this.loadedAt = status.uptime_s;

		return Promise.all(status.wans.map(wan => api.history(wan.name, this.range.span).catch(() => null)))
			.then(histories => past.load(histories.filter(history => history != null)));
	},

	showFailure(error) {
		/* One lost answer is no news; and what was last known is worth more than an empty page. */
		if (error.kind == 'network' && this.status) {
			this.failedSince ??= Date.now();
			this.root.classList.add('wb-stale');
			nodes.text(this.stale, _('The router has not answered for %d s. What you see is how it was before.').format(Math.round((Date.now() - this.failedSince) / 1000)));
			nodes.show(this.stale, Date.now() - this.failedSince >= 4000);
			return;
		}

		this.status = null;
		this.loadedAt = null;
		nodes.show(this.stale, false);
		nodes.show(this.content, false);
		this.panel.show(error.kind, error.kind == 'refused' ? { title: error.message, detail: '' } : null);
	}
});
