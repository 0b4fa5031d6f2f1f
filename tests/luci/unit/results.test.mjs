import assert from 'node:assert/strict';
import { test } from 'node:test';
import { load } from './load.mjs';

// Nodes are seen as their words, each table row as one list.
globalThis.E = (tag, attributes, children = []) => ({ tag, children });
const words = (node) => (typeof node === 'string' ? node : node.children.map(words).join('')).replaceAll('\u00a0', ' ');
const rows = (node) => (node.tag === 'tr' ? [node.children.map(words)] : (node.children ?? []).flatMap((child) => (typeof child === 'string' ? [] : rows(child))));
const shown = (nodes) => nodes.flatMap((node) => (node.tag === 'table' ? rows(node) : [[words(node)]]));

const results = load('wanbond.results');

test('a speed test shows each link, why one was not measured, and what load does to round trips', () => {
	const report = {
		used_bytes: 191e6, together: { down_bps: 64.4e6, up_bps: 13.4e6, rtt_ms: 12, rtt_loaded_ms: 44 },
		wans: [{ name: 'fibre', down_bps: 48.9e6, up_bps: 9.1e6, rtt_ms: 11, rtt_loaded_ms: 31 }, { name: 'lte', down_bps: null, up_bps: null, why: 'it is down' }, { name: 'dsl', down_bps: 1e6, up_bps: null, rtt_ms: 20 }],
	};
	assert.deepEqual(shown(results.speedtest(report)), [
		['Link', 'Download', 'Upload', 'Round trip, idle → busy'],
		['fibre', '48.9 Mbit/s', '9.1 Mbit/s', '11 ms → 31 ms'], ['lte', '', '', 'it is down'], ['dsl', '1.0 Mbit/s', '–', '20 ms'],
		['All together', '64.4 Mbit/s', '13.4 Mbit/s', '12 ms → 44 ms'], ['The test moved 191 MB.'],
	]);
	assert.equal(shown(results.speedtest({})).length, 1);
});

test('a drill shows what is known, connection by connection', () => {
	const report = { message: 'all went on', detected_after_ms: 240, longest_silence_ms: 212.4, flows: 3, flows_lost: 0, back_after_ms: null, probes: [{ kind: 'lane', usual_silence_ms: 21, longest_silence_ms: 212 }, { kind: 'pigeon', usual_silence_ms: 5, broken: true }] };
	assert.deepEqual(shown(results.drill(report)), [
		['all went on'], ['Noticed after', '240 ms'], ['Longest silence of a connection', '212 ms'], ['Connections that went on', '3'], ['Connections lost', '0'],
		['Longest silence', 'before', 'during the cut'], ['Small questions by multipath TCP', '21 ms', '212 ms'], ['pigeon', '5.0 ms', 'broke'],
	]);
});
