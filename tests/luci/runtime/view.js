// What every page's view extends: loads, renders, and has the buttons that save.

import { Base } from './class.js';

const MAPS = '.cbi-map';

export const View = Base.extend({
	__name__: 'view',

	__init__() {
		const at = document.getElementById('view');
		Promise.resolve(this.load())
			.then((data) => this.render(data))
			.then((nodes) => {
				L.dom.content(at, nodes);
				L.dom.append(at, this.addFooter());
				at.dataset.ready = 'yes';
			})
			.catch((error) => {
				L.dom.content(at, []);
				L.error(error);
				at.dataset.ready = 'failed';
			});
	},

	load() {},
	render() {},

	async handleSave() {
		const maps = [ ...document.getElementById('maincontent').querySelectorAll(MAPS) ];
		await Promise.all(maps.map((map) => L.dom.callClassMethod(map, 'save')));
	},

	handleSaveApply(event, mode) {
		return this.handleSave(event).then(() => L.ui.changes.apply(mode == '0'));
	},

	async handleReset() {
		const maps = [ ...document.getElementById('maincontent').querySelectorAll(MAPS) ];
		await Promise.all(maps.map((map) => L.dom.callClassMethod(map, 'reset')));
	},

	addFooter() {
		const shown = [];
		const button = (handler, style, text, ...args) => {
			if (handler)
				shown.push(E('button', { class: `btn cbi-button cbi-button-${style}`, click: L.ui.createHandlerFn(this, handler, ...args), disabled: L.hasViewPermission() ? null : true }, [ text ]), ' ');
		};
		const hasMap = document.querySelector(`#maincontent ${MAPS}`) !== null;
		if (!hasMap)
			return [];
		button(this.handleSaveApply, 'apply', _('Save & Apply'), '0');
		button(this.handleSave, 'save', _('Save'));
		button(this.handleReset, 'reset', _('Reset'));
		return shown.length ? [ E('div', { class: 'cbi-page-actions' }, shown) ] : [];
	},
});
