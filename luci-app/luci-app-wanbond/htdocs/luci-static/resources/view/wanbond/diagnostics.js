'use strict';
'require view';
'require poll';
'require rpc';
'require wanbond.api as api';
'require wanbond.format as format';
'require wanbond.nodes as nodes';
'require wanbond.palette as palette';
'require wanbond.panel as panel';
'require wanbond.results as results';
'require wanbond.tasks as tasks';
'require wanbond.words as words';

/*
 * What is wrong or slow and what to do about it; a speed test, a drill, the log, and a bundle for who is to help.
 */

const callLog = rpc.declare({ object: 'log', method: 'read', params: [ 'lines', 'stream', 'oneshot' ], expect: { log: [] } });

const INTERVAL_S = 2;

/* Lines of the whole system's log that are looked through for ours. */
const LOG_LINES = 1000;

function button(text, kind, click) {
	const node = E('button', { 'class': 'btn cbi-button %s'.format(kind), 'type': 'button' }, [ text ]);

	node.addEventListener('click', () => {
		node.disabled = true;
		Promise.resolve(click()).then(() => { node.disabled = false; });
	});
	return node;
}

function trouble(error) {
	return E('p', { 'class': 'alert-message %s'.format(error.kind == 'newer' ? 'notice' : 'warning'), 'role': 'alert' }, [ error.message ]);
}

function box(title, intro, ...children) {
	return E('section', { 'class': 'wb-section' }, [ E('h3', {}, [ title ]), E('p', { 'class': 'wb-small' }, [ intro ]), ...children ]);
}

return view.extend({
	handleSaveApply: null,
	handleSave: null,
	handleReset: null,

	load() {
		return palette.ready().then(() => api.status()).then(status => ({ status }), error => ({ error }));
	},

	render({ status, error }) {
		const root = E('div', { 'class': 'wb' }, [ E('h2', { 'class': 'wb-spoken' }, [ _('Diagnostics') ]) ]);

		palette.dress(root);

		if (error)
			this.wait(root, error);
		else
			this.fill(root, status);

		return root;
	},

	/* Shows what is the matter until the daemon answers. */
	wait(root, error) {
		const instead = panel.create();
		const ask = () => api.status().then(status => {
			poll.remove(ask);
			instead.node.remove();
			this.fill(root, status);
		}, failure => instead.show(failure.kind));

		instead.show(error.kind);
		root.appendChild(instead.node);
		poll.add(ask, INTERVAL_S);
	},

	fill(root, status) {
		this.status = status;
		root.appendChild(this.findings());

		if (L.hasViewPermission())
			root.append(this.speedtest(), this.drill(), this.log(), this.support());
		else
			root.appendChild(E('p', { 'class': 'wb-small' }, [ _('Tests, the log and the support bundle take the right to change “%s”.').format('luci-app-wanbond-status') ]));
	},

	findings() {
		const list = E('div', { 'class': 'wb-findings', 'role': 'status' });
		const look = () => api.diagnose().then(diagnosis => {
			list.replaceChildren(...(diagnosis.findings ?? []).map(finding => {
				const tone = finding.level == 'warning' ? 'bad' : 'busy';

				return E('div', { 'class': 'wb-finding', 'data-tone': tone }, [
					E('span', { 'class': 'wb-sign', 'role': 'img', 'aria-label': tone == 'bad' ? _('Trouble') : _('Note') }, [ tone == 'bad' ? '!' : 'i' ]),
					E('div', {}, [ E('strong', {}, [ { router: _('Router'), server: _('Server') }[finding.about] ?? finding.about ]), ': ', finding.what, finding.advice ? E('p', {}, [ finding.advice ]) : '' ])
				]);
			}));
		}, error => list.replaceChildren(trouble(error)));

		look();

		return box(_('What is wrong or slow'), _('What the router can see by itself, the gravest first.'), list, button(_('Look again'), '', look));
	},

	/* The links a test can be run on. */
	choice(all) {
		const select = E('select', { 'class': 'cbi-input-select', 'aria-label': _('Link') }, all ? [ E('option', { 'value': '' }, [ all ]) ] : []);

		(this.status.wans ?? []).filter(wan => !words.isIdle(wan)).forEach(wan =>
			select.appendChild(E('option', { 'value': wan.name }, [ wan.name ])));

		return select;
	},

	/* A place where a task is run and its result shown. */
	bench(select, text, start, show) {
		const out = E('div', { 'class': 'wb-outcome', 'role': 'status' });
		const stop = E('button', { 'class': 'btn cbi-button', 'type': 'button', 'hidden': '' }, [ _('Stop') ]);
		let wanted = false;

		stop.addEventListener('click', () => { wanted = false; });

		const go = button(text, 'cbi-button-action', () => {
			const progress = tasks.meter();

			wanted = true;
			nodes.show(stop, true);
			out.replaceChildren(progress.node);
			progress.update({});

			return tasks.run(() => start(select.value || undefined), task => progress.update(task), () => wanted)
				.then(result => out.replaceChildren(...(result ? show(result) : [ E('p', {}, [ _('Stopped.') ]) ])), error => out.replaceChildren(trouble(error)))
				.then(() => nodes.show(stop, false));
		});

		return E('div', {}, [ E('div', { 'class': 'wb-bench' }, [ select, go, stop ]), out ]);
	},

	speedtest() {
		return box(_('Speed test'),
			_('Between this router and your server, each link alone and then all together. It moves as much as fits, which counts towards quotas.'),
			this.bench(this.choice(_('All links')), _('Measure'), name => api.speedtest(name), result => results.speedtest(result)));
	},

	drill() {
		return box(_('Failover drill'),
			_('Takes a link away for 10 seconds as if its cable were cut, and tells what connections felt. It comes back by itself.'),
			this.bench(this.choice(), _('Cut it for 10 seconds'), name => api.drill(name, 10), result => results.drill(result)));
	},

	log() {
		const out = E('pre', { 'class': 'wb-log', 'tabindex': 0, 'aria-label': _('Log') }, [ _('Loading …') ]);
		const read = () => callLog(LOG_LINES, false, true).then(lines => {
			const ours = lines.filter(line => /^wanbond\b/.test(line.msg ?? '')).slice(-200);

			nodes.text(out, ours.map(line => '%s  %s'.format(format.clock(line.time), line.msg.replace(/^wanbond(\[\d+\])?:\s*/, ''))).join('\n') || _('Nothing in the log at the moment.'));
			out.scrollTop = out.scrollHeight;
		}, () => nodes.text(out, _('The log can\'t be read.')));

		read();

		return box(_('Log'), _('What wanbond has written to the system log of late.'), out, button(_('Read again'), '', read));
	},

	support() {
		const said = E('span', { 'class': 'wb-small', 'role': 'status' });
		const save = () => api.support().then(bundle => {
			const name = 'wanbond-support-%s.json'.format(new Date().toISOString().slice(0, 16).replace(/[:T]/g, '-'));
			const url = URL.createObjectURL(new Blob([ JSON.stringify(bundle, null, '\t') ], { type: 'application/json' }));
			const link = E('a', { 'href': url, 'download': name });

			link.click();
			/* Browsers take the data a moment later. */
			window.setTimeout(() => URL.revokeObjectURL(url), 10000);
			nodes.text(said, _('%s is in your downloads. Look through it before you pass it on.').format(name));
		}, error => nodes.text(said, error.message));

		return box(_('Support bundle'), _('Status, configuration, history and findings in one file, without keys and pairing codes. It names addresses.'),
			E('div', { 'class': 'wb-bench' }, [ button(_('Save the bundle'), '', save), said ]));
	}
});
