import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { translation } from '../server/app.mjs';
import { repository } from '../server/lab.mjs';
import { load } from './load.mjs';

const english = load('wanbond.sentences');

test('in English every sentence comes out as the daemon has said it', () => {
	for (const sentence of english.SENTENCES) {
		let place = 0;
		const said = sentence.replace(/%([s%])/g, (_, kind) => kind == '%' ? '%' : `lte${++place}`);
		assert.equal(english.say(said), said);
	}
	for (const unknown of [ '', 'A sentence of a daemon of the future.', 'lte', 'One. Two.' ])
		assert.equal(english.say(unknown), unknown);
});

test('names and figures find their places in a translation, and what is said in places is translated too', () => {
	const german = translation('de');
	const sentences = load('wanbond.sentences', { _: (text) => german[text]?.[0] ?? text });
	assert.equal(sentences.say('WAN lte is down: the server does not answer over it any more'),
		'WAN lte: ausgefallen – der Server antwortet darüber nicht mehr');
	assert.equal(sentences.say('server vps is used instead of spare, which does not answer any more'),
		'Server vps wird statt spare benutzt, der nicht mehr antwortet');
	assert.equal(sentences.say('WAN lte has carried 80 % of its 50 GB this month'), 'WAN lte hat in diesem Monat 80 % von 50 GB übertragen');
	assert.equal(sentences.say('server vps: unknown_router'), 'Server vps: kennt diesen Router nicht');
	assert.match(sentences.say('lte was cut for 5 s, which was noticed after 212 ms. No connection was without data for longer than 250 ms (a download); none was lost. It was up 1.2 s after its return.'),
		/^lte war 5 s lang getrennt, bemerkt nach 212 ms\. Keine Verbindung war länger als 250 ms ohne Daten \(ein Download\); keine ging verloren\. Sie war 1\.2 s nach/);
});

test('documents keep all but their sentences', () => {
	const upper = load('wanbond.sentences', { _: (text) => text.toUpperCase().replace(/%S/g, '%s') });
	const status = {
		version: '1', wans: [ { name: 'no link', why: 'no link', addresses: [ 'no link' ], rtt_ms: null } ], lan: [], quota: null,
		events: [ { seq: 1, message: 'WAN x is paused', wan: 'x' } ], bypass: { rules: [ { fits: 'bonded', now: 'bonded' } ], domains_by: '' },
	};
	assert.deepEqual(upper.document(status), {
		version: '1', wans: [ { name: 'no link', why: 'NO LINK', addresses: [ 'no link' ], rtt_ms: null } ], lan: [], quota: null,
		events: [ { seq: 1, message: 'WAN x IS PAUSED', wan: 'x' } ], bypass: { rules: [ { fits: 'bonded', now: 'BONDED' } ], domains_by: '' },
	});
});

/** The daemon's sources that make sentences for its documents. */
const SOURCES = [
	'control/src/diagnosis.rs', 'router/src/wan/', 'router/src/netifd/', 'router/src/task/', 'router/src/link/',
	'router/src/shared.rs', ...[ 'act', 'brain', 'bypass', 'jobs', 'status', 'surroundings', 'mod' ].map((name) => `router/src/daemon/${name}.rs`),
];

/** What stands there for other eyes: logs, errors of the command line, documents in English by intent. */
const OTHERS = [
	/^connection for datagrams$/, /^datagram from elsewhere$/, /^no UDP socket on this WAN$/,
	/^\(it can't be read: %s\)$/, /^there is no WAN '%s'/, /^there is no task %s any more/, /^no task has been begun yet$/,
	/^the kernel's links can't be listed$/, /^wanbond is running in this network namespace/, /^the (control socket|journal of)/,
	/^port %s, to which TCP is redirected/, /^tables that others delete/, /^the kernel's random generator works$/,
	/^what was counted is not known$/, /^another server is used$/, /^(looked at )?what goes around the bond$/, /^(the|a part of the) daemon (ended|failed)/,
];

test('no sentence of the daemon is missing', () => {
	const files = SOURCES.flatMap((name) => {
		const place = path.join(repository, 'aggregator', name);
		return name.endsWith('/') ? readdirSync(place).filter((file) => /(?<!tests)\.rs$/.test(file)).map((file) => path.join(place, file)) : [ place ];
	});
	const plain = (sentence) => sentence.replaceAll('%%', '%');
	const known = english.SENTENCES.map(plain);
	const missing = [];
	for (const file of files) {
		const source = readFileSync(file, 'utf8').split(/#\[cfg\(test\)\]\nmod \w+ \{/)[0].replace(/^\s*\/\/.*$/gm, '')
			.replace(/\b(trace|debug|info|warn|error|assert\w*|unreachable)!\((?:[^;"]|"(?:[^"\\]|\\.)*")*?\);?/g, '')
			.replace(/\.(expect|context|with_context)\((?:\|\| ?)?"(?:[^"\\]|\\.)*"/g, '');
		for (const [ , literal ] of source.matchAll(/"((?:[^"\\]|\\[\s\S])*)"/g)) {
			const text = literal.replace(/\\\n\s*/g, '').replace(/\\(.)/g, '$1').replace(/\{[^{}]*\}/g, '%s').trim();
			// Two words and more, or at least a whole one with a place, are meant for people.
			if (text.split(' ').length < 3 || OTHERS.some((other) => other.test(text)))
				continue;
			// Some are put together from pieces, or have one in a place.
			const parts = text.split('%s').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
			const whole = new RegExp(`^${parts.join('.*')}$`);
			if (!known.some((sentence) => whole.test(sentence) || sentence.includes(text)))
				missing.push(`${path.relative(repository, file)}: ${text}`);
		}
	}
	assert.deepEqual(missing, [], 'add these to luci-app/…/wanbond/sentences.js and translate them (or to OTHERS here)');
});
