'use strict';
'require view';
'require uci';
'require wanbond.api as api';
'require wanbond.config as config';
'require wanbond.format as format';
'require wanbond.netifd as netifd';
'require wanbond.nodes as nodes';
'require wanbond.palette as palette';
'require wanbond.scene as scene';
'require wanbond.settings as settings';
'require wanbond.tasks as tasks';
'require wanbond.verdict as verdict';
'require wanbond.words as words';

/*
 * From a pairing code to a bond in three steps: the server, the links, and go. Nothing is written before the end.
 */

const STEPS = [ () => _('Server'), () => _('Links'), () => _('Connect') ];

function button(text, kind, click) {
	const node = E('button', { 'class': 'btn cbi-button %s'.format(kind ?? ''), 'type': 'button' }, [ text ]);

	node.addEventListener('click', click);
	return node;
}

/* A sign, a sentence, and the reason. */
function finding(tone, text, why) {
	return E('div', { 'class': 'wb-finding', 'data-tone': tone }, [
		E('span', { 'class': 'wb-sign', 'aria-hidden': 'true' }, [ words.sign(tone) ]),
		E('div', {}, [ E('strong', {}, [ text ]), why ? E('p', {}, [ why ]) : '' ])
	]);
}

/* What the check of a code found on one link, in a line. */
function linkFinding(wan) {
	if (!wan.reached)
		return finding('bad', wan.name, wan.why || _('The server was not reached over it.'));

	const facts = [
		format.ms(wan.rtt_ms),
		wan.mptcp == 'working' ? _('multipath TCP works') : wan.mptcp == 'stripped' ? _('multipath TCP is removed on the way: the tunnel is used instead') : null,
		wan.udp ? null : _('UDP is blocked: only TCP is bonded over it')
	].filter(fact => fact != null);

	return finding(wan.udp && wan.mptcp != 'stripped' ? 'good' : 'warn', wan.name, [ facts.join(', '), wan.why ].filter(text => text).join('. '));
}

return view.extend({
	handleSaveApply: null,
	handleSave: null,
	handleReset: null,

	load() {
		return Promise.all([
			settings.load(),
			netifd.dump(),
			L.resolveDefault(api.status(), null)
		]);
	},

	render([ readable, networks ]) {
		this.root = E('div', { 'class': 'wb wb-setup' });
		palette.dress(this.root);

		if (!readable || !L.hasViewPermission())
			return settings.denied(this);

		this.networks = networks;
		this.sections = uci.sections('wanbond');
		this.lans = netifd.lans(networks);
		this.wish = { code: '', links: this.knownLinks(), lans: this.knownLans() };
		this.progress = E('ol', { 'class': 'wb-steps' });
		this.body = E('div', { 'class': 'wb-step-box' });
		this.root.append(E('h2', { 'class': 'wb-spoken' }, [ _('Setup') ]), this.progress, this.body);
		this.go(0);

		return this.root;
	},

	has(type) {
		return this.sections.some(section => section['.type'] == type);
	},

	/* The links netifd knows, with what the configuration says of them. */
	knownLinks() {
		const wans = this.sections.filter(section => section['.type'] == 'wan');
		const links = netifd.links(this.networks).map(link => ({
			interface: link.name, device: link.device, mobile: link.mobile, metric: link.metric, use: link.up, role: link.role
		}));

		for (const wan of wans) {
			const known = links.find(link => wan.interface ? link.interface == wan.interface : link.device == wan.device);
			const link = known ?? { interface: wan.interface, device: wan.device, mobile: false };

			link.use = wan.enabled == null || wan.enabled == '1';
			link.role = wan.role ?? 'bond';

			if (!known)
				links.push(link);
		}

		return links;
	},

	knownLans() {
		const globals = this.sections.find(section => section['.type'] == 'wanbond');
		const had = [].concat(globals?.lan ?? []).flatMap(names => names.split(/\s+/)).filter(name => name);

		return had.length ? had : this.lans.filter(name => name == 'lan').concat(this.lans.includes('lan') ? [] : this.lans.slice(0, 1));
	},

	go(step) {
		this.step = step;
		this.leave?.();
		this.leave = null;
		this.progress.replaceChildren(...STEPS.map((name, i) => E('li', {
			'class': i < step ? 'wb-done' : null, 'aria-current': i == step ? 'step' : null
		}, [ E('span', { 'class': 'wb-number' }, [ i < step ? '✓' : '%d'.format(i + 1) ]), ' ', name() ])));
		this.body.replaceChildren(...[ this.serverStep, this.linksStep, this.connectStep ][step].call(this));
		this.body.querySelector('[data-focus]')?.focus();
	},

	/* ── 1: the server ── */

	serverStep() {
		const had = this.has('server');
		const input = E('textarea', {
			'id': 'wb-code', 'rows': 4, 'spellcheck': 'false', 'autocomplete': 'off', 'autocapitalize': 'off', 'data-focus': '',
			'placeholder': 'wanbond1:…', 'aria-describedby': 'wb-code-help'
		});
		const found = E('div', { 'class': 'wb-findings', 'role': 'status' });
		const next = button(_('Continue'), 'cbi-button-action important', () => this.go(1));
		let round = 0;

		const check = () => {
			const mine = ++round;
			const code = config.cleanCode(input.value);

			this.wish.code = '';
			this.report = null;
			next.disabled = !(had && code == '');
			nodes.text(next, _('Continue'));
			found.replaceChildren();

			if (code == '')
				return;

			const shape = config.checkCode(code);

			if (shape !== true) {
				found.append(finding('bad', _('This is not a pairing code.'), shape));
				return;
			}

			this.wish.code = code;
			this.check(code, found, {
				wanted: () => mine == round && this.step == 0,
				usable: doubtful => {
					next.disabled = false;
					nodes.text(next, doubtful ? _('Continue anyway') : _('Continue'));
				}
			});
		};

		input.value = this.wish.code;
		/* A paste is checked at once, typing once it rests. */
		let timer = null;
		input.addEventListener('input', () => {
			window.clearTimeout(timer);
			timer = window.setTimeout(check, 250);
		});
		next.disabled = !had && !this.report;

		/* Whoever comes back finds what was found. */
		if (this.report)
			this.showReport(found);
		else if (this.wish.code)
			check();

		return [
			E('h3', {}, [ _('Paste the pairing code of your server') ]),
			E('p', { 'id': 'wb-code-help' }, [
				had
					? _('A server is set up already. Paste a new code to change it, or leave this empty to keep it.')
					: _('The installation on the server printed it. It prints a new one with: wanbond-setup add-router NAME')
			]),
			E('label', { 'class': 'wb-spoken', 'for': 'wb-code' }, [ _('Pairing code') ]), input,
			found,
			E('div', { 'class': 'wb-nav' }, [ E('span'), next ])
		];
	},

	/*
	 * Checks a code over all links and shows what it finds. `then` has what the step does about it: `wanted()` whether
	 * anybody still waits, `usable(doubtful)` that it can be gone on with.
	 */
	check(code, found, then) {
		const progress = tasks.meter();
		const again = button(_('Check again'), '', () => this.check(code, found, then));

		progress.update({ step: _('Looking for the server over each link …') });
		found.replaceChildren(progress.node);

		return tasks.run(() => api.pairing(code), task => progress.update(task), then.wanted).then(report => {
			if (!then.wanted() || report == null)
				return;

			this.report = report;
			this.showReport(found);
			then.usable(!report.reached);

			if (!report.reached)
				found.append(again);
		}, error => {
			if (!then.wanted())
				return;

			found.replaceChildren([ 'newer', 'daemon' ].includes(error.kind)
				? finding('warn', _('The code could not be checked.'), _('%s It is checked when the connection is made.').format(error.message))
				: finding('bad', _('The check failed.'), error.message), again);

			/* A code that is wrong in itself can't be gone past; a check that did not come about can. */
			if (error.kind != 'refused' || error.code == 'busy')
				then.usable(true);
		});
	},

	/* What the check found, link by link. */
	showReport(found) {
		const wans = this.report.wans ?? [];
		const reached = wans.filter(wan => wan.reached).length;

		found.replaceChildren(
			this.report.reached
				? finding('good', N_(reached, 'The server answers over %d link.', 'The server answers over %d links.').format(reached), this.report.why)
				: finding('bad', _('The server was not reached.'), this.report.why || _('Is it running, and are its ports open in the provider\'s firewall?')),
			...wans.map(linkFinding)
		);
	},

	/* ── 2: the links ── */

	linksStep() {
		this.adopt();

		const links = E('div', { 'class': 'wb-choices' }, this.wish.links.map((link, i) => this.linkChoice(link, i)));
		const lans = E('div', { 'class': 'wb-choices wb-inline' }, this.lanNames().map((name, i) => this.lanChoice(name, i)));

		this.linksNote = E('div', { 'role': 'status' });
		this.toConnect = button(_('Continue'), 'cbi-button-action important', () => this.go(2));
		this.judgeLinks();

		return [
			E('h3', { 'tabindex': -1, 'data-focus': '' }, [ _('Which links are to be bonded?') ]),
			this.wish.links.length ? links : finding('bad', _('No link to the Internet was found.'), _('Each needs an interface with a default route: Network, Interfaces.')),
			this.linksNote,
			E('h3', {}, [ _('Whose traffic?') ]),
			lans,
			E('div', { 'class': 'wb-nav' }, [ button(_('Back'), '', () => this.go(0)), this.toConnect ])
		];
	},

	/* The check may have found more than netifd shows here, and knows better which role fits. */
	adopt() {
		for (const wan of this.report?.wans ?? []) {
			const known = this.wish.links.find(link => wan.interface ? link.interface == wan.interface : link.device == wan.device);

			if (known)
				known.found = wan;
			else
				this.wish.links.push({ interface: wan.interface, device: wan.device, use: wan.reached, role: wan.role ?? 'bond', found: wan });
		}
	},

	linkChoice(link, index) {
		const id = 'wb-link-%d'.format(index);
		const name = link.interface || link.device;
		const box = E('input', { 'type': 'checkbox', 'id': id });
		const role = E('select', { 'class': 'cbi-input-select', 'aria-label': _('Role of %s').format(name) },
			words.roles().filter(choice => choice.word != 'off').map(choice => E('option', { 'value': choice.word }, [ choice.text ])));
		const hint = E('small', { 'class': 'wb-small' });
		const show = () => {
			nodes.text(hint, words.roles().find(choice => choice.word == link.role)?.hint ?? '');
			role.disabled = !link.use;
		};

		if (link.role == 'off')
			link.role = 'bond';

		box.checked = link.use;
		role.value = link.role;
		box.addEventListener('change', () => { link.use = box.checked; show(); this.judgeLinks(); });
		role.addEventListener('change', () => { link.role = role.value; show(); this.judgeLinks(); });
		show();

		return E('div', { 'class': 'wb-choice' }, [
			box,
			E('label', { 'for': id }, [ E('strong', {}, [ name ]), link.device && link.device != name ? E('small', { 'class': 'wb-small' }, [ ' ' + link.device ]) : '' ]),
			role, hint,
			link.found ? linkFinding(Object.assign({}, link.found, { name: link.found.reached ? _('reached') : _('not reached') })) : ''
		]);
	},

	lanNames() {
		return this.lans.concat(this.wish.lans.filter(name => !this.lans.includes(name)));
	},

	lanChoice(name, index) {
		const id = 'wb-lan-%d'.format(index);
		const box = E('input', { 'type': 'checkbox', 'id': id });

		box.checked = this.wish.lans.includes(name);
		box.addEventListener('change', () => {
			this.wish.lans = this.lanNames().filter(other => other == name ? box.checked : this.wish.lans.includes(other));
			this.judgeLinks();
		});

		return E('div', { 'class': 'wb-choice' }, [ box, E('label', { 'for': id }, [ name ]) ]);
	},

	/* What stands in the way, and what is worth knowing. */
	judgeLinks() {
		const used = this.wish.links.filter(link => link.use);
		const clash = netifd.clashing(used.filter(link => link.metric != null).map(link => ({ name: link.interface, metric: link.metric })));
		const notes = [];

		if (!used.length)
			notes.push(finding('bad', _('Choose at least one link.')));
		else if (used.length == 1)
			notes.push(finding('warn', _('With one link there is nothing to bond.'), _('It works, and a second one can be added later.')));
		else if (!used.some(link => link.role == 'bond'))
			notes.push(finding('warn', _('No link has the role Bond.'), _('Give it to the links that cost nothing extra.')));

		if (clash.length)
			notes.push(finding('warn', _('%s have the same metric.').format(clash.join(', ')), _('Only one of their default routes is kept. Give each a metric of its own under Network, Interfaces, Advanced Settings.')));

		if (!this.wish.lans.length)
			notes.push(finding('bad', _('Choose at least one network whose traffic is bonded.')));

		this.linksNote.replaceChildren(...notes);
		this.toConnect.disabled = !used.length || !this.wish.lans.length;
	},

	/* ── 3: connect ── */

	connectStep() {
		const used = this.wish.links.filter(link => link.use);
		const edits = config.plan(this.sections, this.wish);
		const go = button(_('Apply and connect'), 'cbi-button-action important', () => this.connect(edits));
		const line = (name, text) => E('div', {}, [ E('dt', {}, [ name ]), E('dd', {}, [ text ]) ]);

		go.setAttribute('data-focus', '');

		return [
			E('h3', {}, [ _('Ready to connect') ]),
			E('dl', { 'class': 'wb-summary' }, [
				line(_('Server'), this.wish.code ? (this.report?.endpoints ?? []).join(', ') || _('of the new pairing code') : _('stays as it is')),
				line(_('Links'), used.map(link => '%s (%s)'.format(link.interface || link.device, words.role(link.role))).join(', ')),
				line(_('Networks'), this.wish.lans.join(', '))
			]),
			E('p', {}, [ _('Nothing was changed so far. Connections that are open now go on as they are; new ones are bonded.') ]),
			E('div', { 'class': 'wb-nav' }, [ button(_('Back'), '', () => this.go(1)), go ])
		];
	},

	connect(edits) {
		const picture = scene.create(_('The links between this router and its server'));
		const title = E('h3', {}, [ _('Saving …') ]), detail = E('p');
		const on = E('a', { 'class': 'btn cbi-button cbi-button-action important', 'href': L.url('admin/network/wanbond/status'), 'hidden': '' }, [ _('Go to Status') ]);
		const back = button(_('Back'), '', () => this.go(2));
		const links = this.wish.links.filter(link => link.use);
		const waiting = links.map(link => ({ name: link.interface || link.device, state: 'trying' }));

		nodes.show(back, false);
		picture.update({ router: 'on', server: 'none', cords: waiting });
		this.body.replaceChildren(E('div', { 'class': 'wb-panel wb-plain', 'role': 'status' }, [ picture.node, title, detail, E('div', { 'class': 'wb-nav' }, [ back, on ]) ]));

		config.apply(edits).then(() => {
			const begun = Date.now();
			let stopped = false;

			this.leave = () => { stopped = true; };
			/* What was written is what the next round starts from. */
			uci.unload('wanbond');
			uci.load('wanbond').then(() => { this.sections = uci.sections('wanbond'); });
			nodes.text(title, _('Connecting …'));

			const look = () => api.status().then(status => {
				const said = verdict.of(status);
				const connected = status.server?.state == 'connected';

				picture.update({ router: 'on', server: connected ? 'on' : 'none', cords: status.wans.length ? scene.cords(status) : waiting });

				/* Links come up one after the other; a second is given to all of them. */
				if (connected && (said.state == 'fine' || Date.now() - begun > 15000)) {
					nodes.text(title, _('Connected.'));
					nodes.text(detail, said.title);
					nodes.show(on, true);
					on.focus();
					stopped = true;
				}
				else if (Date.now() - begun > 8000) {
					nodes.text(title, status.enabled ? said.title : _('Waiting for the wanbond service …'));
					nodes.text(detail, status.problem || said.detail);
					nodes.show(on, true);
					nodes.show(back, true);
				}
			}, error => {
				if (Date.now() - begun > 8000) {
					nodes.text(title, error.message);
					nodes.text(detail, _('Start it under System, Startup, if it does not come by itself.'));
					nodes.show(on, true);
				}
			}).then(() => {
				if (!stopped)
					window.setTimeout(look, 1000);
			});

			return look();
		}, error => {
			nodes.text(title, _('It could not be saved.'));
			nodes.text(detail, error?.message ?? String(error));
			nodes.show(back, true);
		});
	}
});
