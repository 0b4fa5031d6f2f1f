'use strict';
'require baseclass';

/*
 * The arithmetic of graphs: scales, stacks, paths. Pure; `wanbond.chart` draws what comes out.
 */

return baseclass.extend({
	/* The smallest round number that is at least `value`, and at least `least`. */
	nice(value, least) {
		const wanted = Math.max(value || 0, least);
		const power = Math.pow(10, Math.floor(Math.log10(wanted)));

		for (const step of [ 1, 1.5, 2, 3, 4, 5, 6, 8, 10 ])
			/* 0.1 + 0.2 is a little more than 0.3. */
			if (step * power >= wanted * (1 - 1e-9))
				return step * power;

		return 10 * power;
	},

	/*
	 * Columns on top of each other: for each a list of [ lower, upper ], in the order given. What is not known
	 * counts as nothing.
	 */
	stack(columns) {
		const length = Math.max(0, ...columns.map(column => column.length));
		const reached = new Array(length).fill(0);

		return columns.map(column => reached.map((lower, i) => {
			reached[i] = lower + (column[i] ?? 0);
			return [ lower, reached[i] ];
		}));
	},

	/* The highest point of a stack. */
	top(bands) {
		let top = 0;

		for (const [ , upper ] of bands[bands.length - 1] ?? [])
			top = Math.max(top, upper);

		return top;
	},

	/*
	 * Fewer rows, none wider than what can be seen: { t, columns } with about `most` rows, each the mean of those
	 * it stands for. Rows where nothing is known stay unknown.
	 */
	thin(t, columns, most) {
		const size = Math.ceil(t.length / Math.max(most, 1));

		if (size <= 1)
			return { t, columns };

		const rows = [];

		for (let at = 0; at < t.length; at += size)
			rows.push([ at, Math.min(at + size, t.length) ]);

		const mean = (column, [ from, to ]) => {
			let sum = 0, known = 0;

			for (let i = from; i < to; i++)
				if (column[i] != null) {
					sum += column[i];
					known++;
				}

			return known ? sum / known : null;
		};

		return {
			/* A row ends where its last one does. */
			t: rows.map(([ , to ]) => t[to - 1]),
			columns: columns.map(column => rows.map(row => mean(column, row)))
		};
	},

	/* The path of an area between `lower` and `upper`, as y of each x; empty where there is less than a point. */
	area(xs, band, y) {
		if (xs.length < 2)
			return '';

		let there = '', back = '';

		for (let i = 0; i < xs.length; i++) {
			there += `${i ? 'L' : 'M'}${xs[i].toFixed(1)} ${y(band[i][1]).toFixed(1)}`;
			back = `L${xs[i].toFixed(1)} ${y(band[i][0]).toFixed(1)}${back}`;
		}

		return there + back + 'Z';
	},

	/* The path of a line; where nothing is known it has a gap. */
	line(xs, column, y) {
		let path = '', pen = false;

		for (let i = 0; i < xs.length; i++) {
			if (column[i] == null) {
				pen = false;
				continue;
			}

			const point = `${xs[i].toFixed(1)} ${y(column[i]).toFixed(1)}`;

			/* A single point between two gaps is seen as a dot, through round caps. */
			path += pen ? `L${point}` : `M${point}L${point}`;
			pen = true;
		}

		return path;
	},

	/*
	 * Events that would stand on top of each other as one mark: [{ x, grave, events }], each at the first of its
	 * events, further than `gap` from the one before. Events come in the order of time.
	 */
	marks(events, x, gap) {
		const marks = [];

		for (const event of events) {
			const at = x(event.at_s);
			const last = marks[marks.length - 1];

			if (last && at - last.x < gap) {
				last.events.push(event);
				last.grave ||= event.level == 'warning';
			}
			else {
				marks.push({ x: at, grave: event.level == 'warning', events: [ event ] });
			}
		}

		return marks;
	},

	/*
	 * Ticks of the time axis between two dates in milliseconds: [{ at, text }], at round times of the day.
	 * `say(date, step)` writes one.
	 */
	timeTicks(from, to, most, say) {
		const MINUTE = 60e3, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
		const steps = [ 10e3, 15e3, 30e3, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY ];
		const step = steps.find(length => (to - from) / length <= most) ?? steps[steps.length - 1];
		const ticks = [];
		/* Midnight here, not in Greenwich. */
		const shift = new Date(from).getTimezoneOffset() * MINUTE;

		for (let at = Math.ceil((from - shift) / step) * step + shift; at <= to; at += step)
			ticks.push({ at, text: say(at, step) });

		return ticks;
	}
});
