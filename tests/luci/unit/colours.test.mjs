// Whether WANs' colours can be told apart by everybody, and everything be read: measured on the style sheet.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

const STYLE = new URL('../../../luci-app/luci-app-wanbond/htdocs/luci-static/resources/wanbond/style.css', import.meta.url);
const css = readFileSync(STYLE, 'utf8');

/** How the kinds of colour vision see linear RGB (Machado, Oliveira and Fernandes 2009, full severity). */
const VISIONS = {
	usual: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
	protanopia: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
	deuteranopia: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
	tritanopia: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
};

const hex = (text) => (text.length === 4 ? text.replace(/[0-9a-f]/g, '$&$&') : text);
const linear = (colour) => [1, 3, 5].map((at) => parseInt(hex(colour).slice(at, at + 2), 16) / 255)
	.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
const seen = (rgb, vision) => VISIONS[vision].map((row) => Math.min(1, Math.max(0, row.reduce((sum, factor, i) => sum + factor * rgb[i], 0))));
const luminance = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;

/** CIE L*a*b*, in which the distance of two colours is how different they look. */
function lab([r, g, b]) {
	const f = (t) => (t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 16 / 116);
	const [x, y, z] = [(0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505, luminance([r, g, b]), (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089].map(f);
	return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

/** WCAG's contrast of two colours. */
function contrast(one, other) {
	const [dark, light] = [one, other].map((colour) => luminance(linear(colour))).sort((a, b) => a - b);
	return (light + 0.05) / (dark + 0.05);
}

// The backgrounds of LuCI's bootstrap theme: the page's, and that of boxes on it.
for (const [theme, selector, page, box] of [['light', '.wb {', '#ffffff', '#f9f9f9'], ['dark', '.wb.wb-dark {', '#222222', '#282828']]) {
	const block = css.slice(css.indexOf(selector), css.indexOf('}', css.indexOf(selector)));
	const colours = Object.fromEntries([...block.matchAll(/--wb-([\w-]+): (#[0-9a-f]{3,6});/g)].map(([, name, value]) => [name, value]));
	const wans = Object.keys(colours).filter((name) => name.startsWith('wan-'));

	test(`WANs' colours in the ${theme} theme are told apart by everybody`, () => {
		assert.equal(wans.length, 8);
		for (const vision of Object.keys(VISIONS))
			for (const [i, one] of wans.entries())
				for (const other of wans.slice(0, i)) {
					const [a, b] = [one, other].map((name) => lab(seen(linear(colours[name]), vision)));
					assert.ok(Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]) >= 15, `${vision}: ${one} and ${other} look alike`);
				}
	});

	test(`everything can be seen in the ${theme} theme, and text be read`, () => {
		for (const name of wans)
			assert.ok(Math.min(contrast(colours[name], page), contrast(colours[name], box)) >= 3, name);
		for (const name of ['quiet', 'good', 'warn', 'bad', 'busy', 'idle'])
			assert.ok(Math.min(contrast(colours[name], page), contrast(colours[name], box)) >= 4.5, name);
	});
}
