'use strict';
'require baseclass';

/*
 * What was, as columns over one time axis: the daemon's histories of all WANs, and after them what each status
 * document adds. Times are seconds after the daemon's start. Bounded: what is older than the span is dropped, and
 * however often one asks, no step has more than two points.
 */

const COLUMNS = [ 'rx_bps', 'tx_bps', 'rtt_ms', 'loss_percent' ];

class Series {
	constructor(span) {
		this.span = span;
		this.clear();
	}

	clear() {
		this.t = [];
		this.wans = {};
		this.step = 1;
	}

	/* Takes histories in place of what is there. They may have been asked for one after the other. */
	load(histories) {
		this.clear();

		const known = histories.filter(history => history?.step_s > 0 && Array.isArray(history.rx_bps));

		if (!known.length)
			return;

		const step = this.step = known[0].step_s;
		/* What one has seen and another not yet comes with the next status. */
		const until = Math.min(...known.map(history => history.until_s));
		const beyond = history => Math.round((history.until_s - until) / step);
		const rows = Math.max(0, ...known.map(history => history.rx_bps.length - beyond(history)));

		for (let row = 0; row < rows; row++)
			this.t.push(until - (rows - 1 - row) * step);

		for (const history of known) {
			const columns = this.wans[history.name] = {};

			for (const name of COLUMNS) {
				const had = (history[name] ?? []).slice(0, history.rx_bps.length - beyond(history));

				columns[name] = new Array(rows - had.length).fill(null).concat(had);
			}
		}

		this.trim();
	}

	/* Whether a status document continues this: false after a restart of the daemon or a long gap. */
	continuedBy(status) {
		const last = this.t[this.t.length - 1];

		return last != null && status.uptime_s >= last - 2 * this.step && status.uptime_s - last < Math.max(15, 3 * this.step);
	}

	/* Adds what a status document says of now. */
	append(status) {
		if (status.uptime_s <= this.t[this.t.length - 1])
			return;

		/* The newest shows at once; what it follows too closely makes room for it. */
		if (status.uptime_s - this.t[this.t.length - 2] < this.step)
			this.columns().forEach(column => column.pop());

		const rows = this.t.length;

		this.t.push(status.uptime_s);

		for (const wan of status.wans) {
			const columns = this.wans[wan.name] ??= Object.fromEntries(COLUMNS.map(name => [ name, new Array(rows).fill(null) ]));

			for (const name of COLUMNS)
				columns[name].push(wan[name] ?? null);
		}

		/* WANs that have gone from the configuration. */
		this.columns().filter(column => column.length <= rows).forEach(column => column.push(null));

		this.trim();
	}

	trim() {
		const oldest = this.t[this.t.length - 1] - this.span;
		/* One before the edge stays, for the line that comes in from there. */
		const gone = this.t.findIndex(t => t >= oldest) - 1;

		if (gone <= 0)
			return;

		this.columns().forEach(column => column.splice(0, gone));
	}

	/* All columns, that of the times as well; each has a value per row. */
	columns() {
		return [ this.t, ...Object.values(this.wans).flatMap(columns => COLUMNS.map(name => columns[name])) ];
	}

	/* A column of a WAN; unknown all along if there is none. */
	column(wan, name) {
		return this.wans[wan]?.[name] ?? new Array(this.t.length).fill(null);
	}
}

return baseclass.extend({
	/* An empty series that keeps `span` seconds. */
	create(span) {
		return new Series(span);
	}
});
