// The sections of a form: all of a type below each other, in a table, or a single one by name.

import { Node } from './form-map.js';

export const AbstractSection = Node.extend({
	__name__: 'form.AbstractSection',

	__init__(map, type, title, description) {
		Node.prototype.__init__.call(this, title, description);
		Object.assign(this, { map, config: map.config, sectiontype: type, anonymous: false, addremove: false, sortable: false, tabsOf: [] });
	},

	cfgsections() {
		const all = this.map.data.sections(this.uciconfig ?? this.config, this.sectiontype).map((section) => section['.name']);
		return this.filter ? all.filter((id) => this.filter(id)) : all;
	},

	options() {
		return this.children;
	},

	option(Class, name, ...args) {
		const option = new Class(this.map, this, name, ...args);
		this.append(option);
		return option;
	},

	tab(name, title, description) {
		this.tabsOf.push({ name, title, description });
	},

	taboption(tab, Class, ...args) {
		const option = this.option(Class, ...args);
		option.tab = tab;
		return option;
	},

	cfgvalue(id, name) {
		const known = (option) => [ option.option, option.cfgvalue(id) ];
		return name ? this.options().find((option) => option.option == name)?.cfgvalue(id) ?? null : Object.fromEntries(this.options().map(known));
	},

	formvalue(id, name) {
		return this.options().find((option) => option.option == name)?.formvalue(id) ?? null;
	},

	getUIElement(id, name) {
		return this.getOption(name)?.getUIElement(id) ?? null;
	},

	getOption(name) {
		return this.options().find((option) => option.option == name) ?? null;
	},

	async load() {
		await Promise.all(this.cfgsections().flatMap((id) => this.options().map((option) => option.loadInto(id))));
	},

	async parse() {
		for (const id of this.cfgsections())
			for (const option of this.options())
				await option.parse(id);
	},

	checkDepends() {
		return this.cfgsections().flatMap((id) => this.options().map((option) => option.checkDepends(id))).includes(true);
	},

	/** One section's options below each other, in tabs where it has some. */
	async renderOptions(id) {
		const rows = await Promise.all(this.options().map(async (option, index) => [ option.tab, await option.render(index, id) ]));
		if (!this.tabsOf.length)
			return rows.map(([ , row ]) => row);
		const panes = this.tabsOf.map(({ name, title, description }) => E('div', { 'data-tab': name, 'data-tab-title': title }, [
			description ? E('div', { class: 'cbi-tab-descr' }, description) : null,
			...rows.filter(([ tab ]) => tab == name).map(([ , row ]) => row),
		]));
		const all = E('div', {}, panes);
		L.ui.tabs.initTabGroup(panes);
		return [ all ];
	},

	get heading() {
		return [
			this.title ? E('h3', {}, [ this.title ]) : null,
			this.description ? E('div', { class: 'cbi-section-descr' }, this.description) : null,
		];
	},

	async handleAdd(_event, name) {
		const id = this.map.data.add(this.uciconfig ?? this.config, this.sectiontype, name);
		await this.map.data.save();
		return this.map.reset().then(() => id);
	},

	handleRemove(id) {
		this.map.data.remove(this.uciconfig ?? this.config, id);
		return this.map.save(null, true);
	},

	renderSectionAdd(classes) {
		if (!this.addremove || this.map.readonly)
			return E('div', {});
		const field = this.anonymous ? null : E('input', { type: 'text', class: 'cbi-section-create-name', 'aria-label': _('Name'), placeholder: _('Name') });
		const button = E('button', { class: 'cbi-button cbi-button-add', disabled: field ? '' : null, click: L.ui.createHandlerFn(this, (event) => this.handleAdd(event, field?.value)) },
			[ this.titleFn('addbtntitle') ?? _('Add') ]);
		field?.addEventListener('input', () => {
			const taken = this.map.data.get(this.uciconfig ?? this.config, field.value) !== null;
			button.disabled = !/^\w+$/.test(field.value) || taken;
		});
		return E('div', { class: `cbi-section-create ${classes ?? ''}` }, [ field, button ]);
	},

	remover(id) {
		if (!this.addremove)
			return null;
		return E('button', { class: 'cbi-button cbi-button-remove', disabled: this.map.readonly ? '' : null, click: L.ui.createHandlerFn(this, this.handleRemove, id) },
			[ this.titleFn('delbtntitle', id) ?? _('Delete') ]);
	},
});

export const TypedSection = AbstractSection.extend({
	__name__: 'form.TypedSection',
	async render() {
		const shown = await Promise.all(this.cfgsections().map(async (id) => E('div', { class: 'cbi-section-node', 'data-section-id': id, id: `cbi-${this.config}-${id}` }, [
			this.anonymous ? null : E('h3', {}, [ this.titleFn('sectiontitle', id) ?? id ]),
			...await this.renderOptions(id),
			E('div', { class: 'cbi-section-remove right' }, [ this.remover(id) ]),
		])));
		const none = shown.length ? null : E('em', {}, [ _('This section contains no values yet') ]);
		return E('div', { class: 'cbi-section', id: `cbi-${this.config}-${this.sectiontype}` }, [ ...this.heading, ...shown, none, this.renderSectionAdd() ]);
	},
});

export const NamedSection = AbstractSection.extend({
	__name__: 'form.NamedSection',
	__init__(map, id, type, title, description) {
		AbstractSection.prototype.__init__.call(this, map, type, title, description);
		this.section = id;
	},
	cfgsections() {
		return this.map.data.get(this.uciconfig ?? this.config, this.section) ? [ this.section ] : [];
	},
	async render() {
		const shown = await Promise.all(this.cfgsections().map(async (id) =>
			E('div', { class: 'cbi-section-node', 'data-section-id': id, id: `cbi-${this.config}-${id}` }, await this.renderOptions(id))));
		return E('div', { class: 'cbi-section', id: `cbi-${this.config}-${this.sectiontype}` }, [ ...this.heading, ...shown ]);
	},
});

export const TableSection = TypedSection.extend({
	__name__: 'form.TableSection',

	get columns() {
		return this.options().filter((option) => !option.modalonly);
	},

	cell(option, id, index) {
		return option.render(index, id, true);
	},

	rowActions(id) {
		return [ this.remover(id) ];
	},

	async render() {
		const named = !this.anonymous || this.sectiontitle;
		const head = E('tr', { class: 'tr cbi-section-table-titles' }, [
			named ? E('th', { class: 'th cbi-section-table-cell' }, [ _('Name') ]) : null,
			...this.columns.map((option) => E('th', { class: 'th cbi-section-table-cell', 'data-widget': option.constructor.displayName }, [ option.titleFn('title') ?? '' ])),
			E('th', { class: 'th cbi-section-table-cell cbi-section-actions' }, []),
		]);
		const rows = await Promise.all(this.cfgsections().map(async (id) => E('tr', { class: 'tr cbi-section-table-row', 'data-sid': id, 'data-section-id': id, id: `cbi-${this.config}-${id}` }, [
			named ? E('td', { class: 'td', 'data-title': _('Name') }, [ this.titleFn('sectiontitle', id) ?? id ]) : null,
			...await Promise.all(this.columns.map((option, index) => this.cell(option, id, index))),
			E('td', { class: 'td cbi-section-table-cell nowrap cbi-section-actions' }, [ E('div', {}, [ ...this.movers(id), ...this.rowActions(id) ]) ]),
		])));
		if (!rows.length)
			rows.push(E('tr', { class: 'tr cbi-section-table-row placeholder' }, [ E('td', { class: 'td' }, [ E('em', {}, [ _('This section contains no values yet') ]) ]) ]));
		return E('div', { class: 'cbi-section cbi-tblsection', id: `cbi-${this.config}-${this.sectiontype}` }, [
			...this.heading, E('table', { class: 'table cbi-section-table' }, [ head, ...rows ]), this.renderSectionAdd() ]);
	},

	movers(id) {
		if (!this.sortable || this.map.readonly)
			return [];
		const move = async (step) => {
			const all = this.cfgsections(), other = all[all.indexOf(id) + step];
			if (other) {
				this.map.data.move(this.config, id, other, step > 0);
				await this.map.reset();
			}
		};
		return [ [ -1, '↑' ], [ 1, '↓' ] ].map(([ step, text ]) => E('button', { class: 'cbi-button drag-handle', click: L.ui.createHandlerFn(this, () => move(step)) }, [ text ]));
	},
});

export const GridSection = TableSection.extend({
	__name__: 'form.GridSection',

	/** What is only shown in the table; what is editable there stands in it as an input. */
	async cell(option, id, index) {
		if (option.editable)
			return option.render(index, id, true);
		const shown = await option.textvalue(id);
		const title = option.titleFn('title') ?? '';
		return E('td', { class: 'td cbi-value-field', 'data-title': title, 'data-name': option.option }, L.dom.elem(shown) ? shown : [ shown ?? E('em', {}, [ _('none') ]) ]);
	},

	rowActions(id) {
		return [
			E('button', { class: 'cbi-button cbi-button-edit', click: L.ui.createHandlerFn(this, this.renderMoreOptionsModal, id) }, [ _('Edit') ]),
			' ',
			...AbstractSection.prototype.remover.call(this, id) ? [ this.remover(id) ] : [],
		];
	},

	/** What the dialog shows: everything that is not for the table alone. */
	async renderMoreOptionsModal(id) {
		await this.addModalOptions(this, id);
		await Promise.all(this.children.map((option) => option.loadInto(id)));
		const dialog = this.children.filter((option) => option.modalonly !== false);
		const all = this.children;
		this.children = dialog;
		const rows = await this.renderOptions(id);
		this.children = all;
		const checks = () => {
			for (let changes = true, round = 0; changes && round < 10; round++)
				changes = dialog.map((option) => option.checkDepends(id)).includes(true);
		};
		const body = E('div', { class: 'cbi-map' }, [ E('div', { class: 'cbi-section' }, [ E('div', { class: 'cbi-section-node', 'data-section-id': id }, rows) ]) ]);
		body.addEventListener('widget-change', checks);
		checks();
		L.ui.showModal(this.titleFn('modaltitle', id) ?? id, [ body, E('div', { class: 'right button-row' }, [
			E('button', { class: 'btn cbi-button', click: L.ui.createHandlerFn(this, this.handleModalCancel, id) }, [ _('Dismiss') ]), ' ',
			E('button', { class: 'cbi-button cbi-button-positive important', disabled: this.map.readonly ? '' : null, click: L.ui.createHandlerFn(this, this.handleModalSave, id, dialog) }, [ _('Save') ]),
		]) ], 'cbi-modal');
	},

	addModalOptions() {},

	async handleModalCancel(id) {
		L.ui.hideModal();
		if (this.added == id) {
			this.map.data.remove(this.uciconfig ?? this.config, id);
			this.added = null;
		}
		return this.map.reset();
	},

	async handleModalSave(id, dialog) {
		try {
			for (const option of dialog)
				await option.parse(id);
		}
		catch {
			// The inputs say what is wrong.
			return;
		}
		this.added = null;
		await this.map.data.save();
		await L.ui.changes.init();
		L.ui.hideModal();
		await this.map.reset();
	},

	async handleAdd(_event, name) {
		const id = this.map.data.add(this.uciconfig ?? this.config, this.sectiontype, name || undefined);
		this.added = id;
		await this.renderMoreOptionsModal(id);
	},

	async parse() {
		for (const id of this.cfgsections())
			for (const option of this.options().filter((known) => known.editable))
				await option.parse(id);
	},
});
