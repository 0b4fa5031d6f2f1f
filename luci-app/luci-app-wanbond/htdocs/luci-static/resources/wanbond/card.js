'use strict';
'require baseclass';
'require wanbond.api as api';
'require wanbond.format as format';
'require wanbond.nodes as nodes';
'require wanbond.palette as palette';
'require wanbond.results as results';
'require wanbond.tasks as tasks';
'require wanbond.words as words';

/*
 * A card for each WAN: what it is, how it does, and what can be done with it.
 */

/* A name with its value, hidden while there is none. */
function fact(name, wide) {
	const value = E('dd');
	const node = E('div', { 'class': wide ? 'wb-wide' : null }, [ E('dt', {}, [ name ]), value ]);

	return {
		node,
		update(text, title) {
			nodes.show(node, text != null && text !== '');
			nodes.text(value, text ?? '');
			nodes.attr(value, 'title', title);
		}
	};
}

/* A rate set large, with its direction. */
function rate(arrow, name) {
	const value = E('strong'), unit = E('small');
	const node = E('span', { 'class': 'wb-rate' }, [
		E('span', { 'class': 'wb-arrow', 'title': name, 'role': 'img', 'aria-label': name }, [ arrow ]), value, ' ', unit
	]);

	return {
		node,
		update(bps) {
			const parts = format.rateParts(bps);

			nodes.text(value, parts.value);
			nodes.text(unit, parts.unit);
		}
	};
}

/* How much of the month's volume is used. */
function quota() {
	const bar = E('div'), text = E('span');
	const frame = E('div', { 'class': 'wb-meter', 'role': 'meter', 'aria-label': _('Quota used'), 'aria-valuemin': 0, 'aria-valuemax': 100 }, [ bar ]);
	const node = E('div', { 'class': 'wb-quota' }, [ frame, text ]);

	return {
		node,
		update(used) {
			nodes.show(node, used != null);

			if (!used)
				return;

			const percent = Math.min(100, used.used_bytes / Math.max(used.limit_bytes, 1) * 100);

			nodes.attr(frame, 'aria-valuenow', Math.round(percent));
			nodes.attr(frame, 'data-tone', percent >= 100 ? 'bad' : percent >= 75 ? 'warn' : 'good');
			bar.style.width = '%d%%'.format(Math.round(percent));
			nodes.text(text, _('%s of %s used, anew on %s').format(
				format.bytes(used.used_bytes), format.bytes(used.limit_bytes), format.nextBillingDay(used.billing_day)));
		}
	};
}

/* A state as a sign and a word. */
function badge() {
	const sign = E('span', { 'class': 'wb-sign', 'aria-hidden': 'true' }), text = E('span');
	const node = E('span', { 'class': 'wb-badge' }, [ sign, text ]);

	return {
		node,
		update(state) {
			nodes.attr(node, 'data-tone', state.tone);
			nodes.text(sign, words.sign(state.tone));
			nodes.text(text, state.text);
		}
	};
}

function drill(name) {
	tasks.dialog({
		title: _('Try what happens without %s').format(name),
		explain: [
			_('%s is taken away for 10 seconds as if its cable were cut. Connections should go on over the other links.').format(name),
			_('Afterwards you see what they felt. The link comes back by itself, even if this page is closed.')
		],
		go: _('Cut %s for 10 seconds').format(name),
		start: () => api.drill(name, 10),
		show: result => results.drill(result)
	});
}

class Card {
	/* `changed()` is called once something was done to the WAN. */
	constructor(name, index, writable, changed) {
		this.name = name;
		this.changed = changed;
		this.state = badge();
		this.device = E('small', { 'class': 'wb-device' });
		this.why = E('p', { 'class': 'wb-why' });
		this.down = rate('↓', _('Download'));
		this.up = rate('↑', _('Upload'));
		this.shareBar = E('div');
		this.share = E('div', { 'class': 'wb-share', 'aria-hidden': 'true' }, [ this.shareBar ]);
		this.facts = {
			share: fact(_('Share')), rtt: fact(_('Round trip')), jitter: fact(_('Jitter')), loss: fact(_('Loss')),
			address: fact(_('Public address')), since: fact(_('Since')), flaps: fact(_('Went away')), way: fact(_('TCP goes by'), true)
		};
		this.quota = quota();
		this.said = E('p', { 'class': 'wb-said', 'role': 'status' });
		this.role = E('span', { 'class': 'wb-role' });
		this.head = E('h3', { 'id': 'wb-wan-%d'.format(index) }, [ palette.mark(index), ' ', name ]);
		this.node = E('article', { 'class': 'wb-card', 'aria-labelledby': 'wb-wan-%d'.format(index) }, [
			E('header', {}, [ this.head, this.device, this.state.node ]),
			this.why,
			E('div', { 'class': 'wb-rates' }, [ this.down.node, this.up.node ]),
			this.share,
			E('dl', { 'class': 'wb-facts' }, Object.values(this.facts).map(made => made.node)),
			this.quota.node,
			this.said,
			writable ? this.actions() : E('footer', {}, [ this.role ])
		]);
		this.node.style.setProperty('--wan', palette.colour(index));
	}

	actions() {
		this.pause = E('button', { 'class': 'btn cbi-button', 'type': 'button' }, [ _('Pause') ]);
		this.drill = E('button', {
			'class': 'btn cbi-button', 'type': 'button', 'title': _('Takes the link away for 10 seconds and measures what connections feel')
		}, [ _('Try a cut') ]);
		this.select = E('select', { 'class': 'cbi-input-select', 'aria-label': _('Role of %s').format(this.name) },
			words.roles().map(role => E('option', { 'value': role.word, 'title': role.hint }, [ role.text ])));

		this.pause.addEventListener('click', () => {
			const up = words.isIdle(this.wan);

			this.act(this.pause, () => api.wan(this.name, up ? 'up' : 'down'), up
				? _('%s is used again.').format(this.name)
				: _('%s is paused until it is resumed or wanbond starts anew.').format(this.name));
		});
		this.drill.addEventListener('click', () => drill(this.name));
		this.select.addEventListener('change', () => this.act(this.select, () => api.wan(this.name, 'role', this.select.value),
			_('Until wanbond starts anew. To keep it, set it under WANs too.')));

		return E('footer', {}, [ this.select, this.pause, this.drill ]);
	}

	/* Does something to the WAN, says what came of it, and lets the page catch up. */
	act(control, action, done) {
		if (this.acting)
			return Promise.resolve();

		/* One that is disabled would lose the focus, and whoever uses keys their place. */
		nodes.attr(control, 'aria-disabled', 'true');
		this.acting = true;
		nodes.text(this.said, '');

		return action().then(() => {
			nodes.attr(this.said, 'data-tone', 'good');
			nodes.text(this.said, done);
		}, error => {
			nodes.attr(this.said, 'data-tone', 'bad');
			nodes.text(this.said, error.message);
		}).then(() => this.changed()).then(() => {
			control.removeAttribute('aria-disabled');
			this.acting = false;
			this.update(this.wan, this.status);
		});
	}

	update(wan, status) {
		this.wan = wan;
		this.status = status;

		const total = status.wans.reduce((sum, other) => sum + other.rx_bps + other.tx_bps, 0);
		const share = total > 0 ? (wan.rx_bps + wan.tx_bps) / total : null;
		const works = [ 'up', 'degraded' ].includes(wan.state);
		const facts = this.facts;

		nodes.attr(this.node, 'data-state', wan.state);
		nodes.text(this.device, [ wan.interface, wan.device ].filter((name, i, all) => name && all.indexOf(name) == i).join(' · '));
		this.state.update(words.wanState(wan));
		nodes.show(this.why, !!wan.why);
		nodes.text(this.why, wan.why ?? '');
		this.down.update(works ? wan.rx_bps : null);
		this.up.update(works ? wan.tx_bps : null);
		this.shareBar.style.width = '%d%%'.format(Math.round((works ? share ?? 0 : 0) * 100));
		facts.share.update(works && share != null ? format.share(share) : null);
		facts.rtt.update(works ? format.ms(wan.rtt_ms) : null, wan.rtt_min_ms != null ? _('at best %s').format(format.ms(wan.rtt_min_ms)) : null);
		facts.jitter.update(works ? format.ms(wan.jitter_ms) : null);
		facts.loss.update(works ? format.percent(wan.loss_percent) : null);
		facts.address.update(wan.public_address ?? null, (wan.addresses ?? []).join(', '));
		facts.since.update(format.span(status.uptime_s - wan.since_s));
		facts.way.update(works ? words.mptcp(wan.mptcp) : null);
		facts.flaps.update(wan.flaps > 0 ? N_(wan.flaps, '%d time of late', '%d times of late').format(wan.flaps) : null);
		this.quota.update(wan.quota);
		nodes.text(this.role, words.role(wan.role));
		this.updateActions();
	}

	updateActions() {
		if (!this.pause || this.acting)
			return;

		const off = this.wan.state == 'off', idle = words.isIdle(this.wan);

		nodes.text(this.pause, off ? _('Use it') : idle ? _('Resume') : _('Pause'));
		nodes.attr(this.pause, 'aria-label', (off ? _('Use %s') : idle ? _('Resume %s') : _('Pause %s')).format(this.name));
		nodes.attr(this.drill, 'aria-label', _('Try a cut of %s').format(this.name));
		this.pause.disabled = false;
		this.drill.disabled = ![ 'up', 'degraded' ].includes(this.wan.state);

		/* Whoever is choosing is not disturbed. */
		if (document.activeElement != this.select)
			this.select.value = this.wan.role;
	}
}

return baseclass.extend({
	badge,
	rate,

	/* A card as an object with `node` and `update(wan, status)`. */
	create(name, index, writable, changed) {
		return new Card(name, index, writable, changed);
	}
});
