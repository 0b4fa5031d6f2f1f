'use strict';
'require baseclass';
'require wanbond.nodes as nodes';

/*
 * Each WAN has a colour, a mark and a dash of its own: whoever can't tell the colours apart has the marks. The
 * colours themselves (style.css) are chosen to be far apart in every kind of colour vision.
 */

const MARKS = [
	'M5 .6a4.4 4.4 0 1 0 0 8.8a4.4 4.4 0 1 0 0-8.8z',
	'M1 1h8v8h-8z',
	'M5 .6l4.7 8.4h-9.4z',
	'M5 .1l4.9 4.9l-4.9 4.9l-4.9-4.9z',
	'M3.4 .6h3.2v2.8h2.8v3.2h-2.8v2.8h-3.2v-2.8h-2.8v-3.2h2.8z',
	'M5 9.4l4.7-8.4h-9.4z',
	'M2.7 .7h4.6l2.5 4.3l-2.5 4.3h-4.6l-2.5-4.3z',
	'M5 0l1.5 3.4l3.5 .3l-2.7 2.4l.9 3.6l-3.2-2l-3.2 2l.9-3.6l-2.7-2.4l3.5-.3z'
];
const DASHES = [ null, '7 3', '2 3', '9 3 2 3', '5 5', '12 3', '1 4', '9 2 2 2 2 2' ];

/* A page is not kept waiting for its style sheet for longer than this. */
const STYLE_MS = 1500;

let style = null;

function loadStyle() {
	/* After an upgrade it is another file. */
	const version = L.env?.resource_version;

	return new Promise(resolve => {
		const link = E('link', { 'rel': 'stylesheet', 'href': L.resource('wanbond/style.css') + (version ? '?v=' + version : '') });

		link.addEventListener('load', resolve);
		link.addEventListener('error', resolve);
		window.setTimeout(resolve, STYLE_MS);
		document.head.appendChild(link);
	});
}

return baseclass.extend({
	/* Resolves once the style sheet is there: pages load it before they show anything. */
	ready() {
		style ??= loadStyle();
		return style;
	},

	/* The CSS value of the colour of the WAN at this place in the configuration. */
	colour(index) {
		return 'var(--wb-wan-%d)'.format(index % MARKS.length);
	},

	/* The stroke-dasharray of its lines. */
	dash(index) {
		return DASHES[index % DASHES.length];
	},

	/* Its mark, hidden from screen readers: the name stands beside it. */
	mark(index) {
		const mark = nodes.svg('svg', { 'class': 'wb-mark', viewBox: '0 0 10 10', 'aria-hidden': 'true' }, [
			nodes.svg('path', { d: MARKS[index % MARKS.length] })
		]);

		mark.style.setProperty('--wan', this.colour(index));

		return mark;
	},

	/*
	 * Keeps `root` told whether the theme is dark: themes have different ways to say so, but all have a background.
	 */
	dress(root) {
		root.classList.toggle('wb-dark', this.isDark(getComputedStyle(document.body).backgroundColor));
	},

	/* Whether a computed colour, `rgb(r, g, b)` or `rgba(…)`, is a dark one. */
	isDark(colour) {
		const [ red, green, blue, alpha ] = (String(colour).match(/[\d.]+/g) ?? []).map(Number);

		if (blue == null || alpha === 0)
			return false;

		return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 110;
	}
});
