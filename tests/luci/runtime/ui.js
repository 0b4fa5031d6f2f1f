// L.ui: dialogs, notes, buttons' handlers, tabs, and the applying of changes.

import { Base } from './class.js';
import * as inputs from './inputs.js';

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Saved changes: how many there are, and making them real. */
const Changes = Base.extend({
	__name__: 'ui.changes',

	async init() {
		const changes = await L.uci.changes();
		const count = Object.values(changes).reduce((sum, list) => sum + list.length, 0);
		L.ui.showIndicator('uci-changes', _('Unsaved Changes') + `: ${count}`, null, count ? 'active' : 'inactive');
		if (!count)
			L.ui.hideIndicator('uci-changes');
		return changes;
	},

	/** Applies, and confirms as soon as the router answers again. */
	async apply() {
		L.ui.showModal(_('Applying configuration changes…'), [ E('p', { class: 'spinning' }, [ _('Starting configuration apply…') ]) ]);
		try {
			await L.uci.apply();
			await this.init();
			L.ui.showModal(null, [ E('p', {}, [ _('Configuration changes applied.') ]) ]);
			await sleep(L.env.apply_display * 1000);
			L.ui.hideModal();
			document.dispatchEvent(new CustomEvent('uci-applied'));
		}
		catch (error) {
			L.ui.hideModal();
			if (error.code == 5)
				L.ui.addNotification(null, [ E('p', {}, [ _('There are no changes to apply') ]) ], 'notice');
			else
				throw error;
		}
	},

	revert: () => L.uci.revertAll().then(() => location.reload()),
});

const Tabs = Base.extend({
	__name__: 'ui.tabs',

	/** Makes panes with data-tab and data-tab-title selectable. */
	initTabGroup(panes) {
		const all = [ ...panes ].filter((pane) => pane.dataset?.tab);
		if (!all.length)
			return;
		const select = (chosen) => {
			all.forEach((pane) => {
				pane.dataset.tabActive = pane == chosen;
				pane.style.display = pane == chosen ? '' : 'none';
			});
			menu.querySelectorAll('li').forEach((item) => item.className = item.dataset.tab == chosen.dataset.tab ? 'cbi-tab' : 'cbi-tab-disabled');
			chosen.dispatchEvent(new CustomEvent('cbi-tab-active', { detail: { tab: chosen.dataset.tab } }));
		};
		const menu = E('ul', { class: 'cbi-tabmenu' }, all.map((pane) => E('li', { 'data-tab': pane.dataset.tab }, [
			E('a', { href: '#', click: (event) => {
				event.preventDefault();
				select(pane);
			} }, [ pane.dataset.tabTitle ]),
		])));
		all[0].parentNode.insertBefore(menu, all[0]);
		select(all.find((pane) => pane.dataset.tabActive == 'true') ?? all[0]);
	},

	isEmptyPane: (pane) => L.dom.isEmpty(pane, (node) => node.classList.contains('cbi-tab-descr')),
	updateTabs() {},
});

export const Ui = Base.extend({
	__name__: 'ui',
	...inputs,
	changes: new Changes(),
	tabs: new Tabs(),

	showModal(title, children, ...classes) {
		let overlay = document.getElementById('modal_overlay');
		if (!overlay) {
			overlay = E('div', { id: 'modal_overlay', tabindex: '-1' }, [ E('div', { class: 'modal', role: 'dialog', 'aria-modal': 'true' }) ]);
			document.body.appendChild(overlay);
		}
		const dialog = overlay.firstElementChild;
		dialog.className = [ 'modal', ...classes ].join(' ');
		L.dom.content(dialog, title ? E('h4', {}, [ title ]) : null);
		L.dom.append(dialog, children);
		document.body.classList.add('modal-overlay-active');
		document.body.scrollTop;
		return dialog;
	},

	hideModal() {
		document.body.classList.remove('modal-overlay-active');
		document.getElementById('modal_overlay')?.remove();
	},

	addNotification(title, children, ...classes) {
		const note = E('div', { class: [ 'alert-message', 'fade-in', ...classes ].join(' ') }, [
			E('div', { class: 'content' }, [ title ? E('h4', {}, [ title ]) : null ]),
			E('div', {}, [ E('button', { class: 'btn', click: () => note.remove() }, [ _('Dismiss') ]) ]),
		]);
		L.dom.append(note.firstElementChild, children);
		const at = document.getElementById('maincontent');
		at.insertBefore(note, at.firstElementChild);
		return note;
	},

	addTimeLimitedNotification(title, children, timeout, ...classes) {
		const note = this.addNotification(title, children, ...classes);
		if (timeout > 0)
			setTimeout(() => note.remove(), timeout);
		return note;
	},

	showIndicator(id, text, handler, style = 'active') {
		let at = document.getElementById('indicators');
		if (!at)
			document.querySelector('header').appendChild(at = E('div', { id: 'indicators' }));
		let found = at.querySelector(`[data-indicator="${id}"]`);
		if (!found)
			at.appendChild(found = E('button', { 'data-indicator': id, class: 'btn', click: handler || null }));
		found.dataset.style = style;
		L.dom.content(found, [ text ]);
		return true;
	},

	hideIndicator(id) {
		const found = document.querySelector(`#indicators [data-indicator="${id}"]`);
		found?.remove();
		return Boolean(found);
	},

	/** A handler of clicks: while it is at work, the button can't be pressed and shows so. */
	createHandlerFn(self, handler, ...args) {
		if (typeof handler == 'string')
			handler = self[handler];
		if (typeof handler != 'function')
			return null;
		return (event) => {
			const button = event.currentTarget;
			button.disabled = true;
			button.classList.add('spinning');
			button.blur();
			return Promise.resolve(handler.apply(self, [ ...args, event ])).finally(() => {
				button.classList.remove('spinning');
				button.disabled = false;
			});
		};
	},

	addValidator(field, type, optional, check, ...events) {
		const validator = L.uci && this.validation?.create(field, type, optional, check);
		return validator && events.forEach((name) => field.addEventListener(name, () => validator.validate()));
	},

	itemlist: (node, items, separators = [ E('br') ]) => {
		const shown = [];
		for (let at = 0; at < items.length; at += 2) {
			if (items[at + 1] === null || items[at + 1] === undefined)
				continue;
			if (shown.length)
				shown.push(separators[0].cloneNode());
			shown.push(E('span', { class: 'nowrap' }, [ items[at] ? E('strong', {}, [ items[at], ': ' ]) : '', items[at + 1] ]));
		}
		L.dom.content(node, shown);
		return node;
	},

	awaitReconnect: () => sleep(1000).then(() => location.reload()),
});
