// The options of a form.

import { Node } from './form-map.js';
import { problem } from './validation.js';

const empty = (value) => value === null || value === undefined || value.length === 0;

export const Value = Node.extend({
	__name__: 'form.Value',

	__init__(map, section, option, title, description) {
		Node.prototype.__init__.call(this, title, description);
		Object.assign(this, { map, section, option, config: map.config, deps: [], rmempty: true, optional: false, default: null, size: null });
		this.keylist = [];
		this.vallist = [];
		this.shown = {};
	},

	depends(field, value) {
		this.deps.push(typeof field == 'object' ? field : { [field]: value });
	},

	/** A value to choose from. */
	value(key, text) {
		this.keylist.push(String(key));
		this.vallist.push(text ?? key);
	},

	get choices() {
		return this.keylist.length ? Object.fromEntries(this.keylist.map((key, at) => [ key, this.vallist[at] ])) : null;
	},

	cbid(id) {
		return `cbid.${this.config}.${id}.${this.option}`;
	},

	load(id) {
		return this.map.data.get(this.uciconfig ?? this.config, this.ucisection ?? id, this.ucioption ?? this.option);
	},

	async loadInto(id) {
		const value = await this.load(id);
		this.loaded = { ...this.loaded, [id]: value };
	},

	cfgvalue(id) {
		return this.loaded?.[id] ?? null;
	},

	get readonlyNow() {
		return this.readonly ?? this.map.readonly;
	},

	widget(id, value) {
		const options = { id: `widget.${this.cbid(id)}`, name: this.cbid(id), placeholder: this.placeholder, password: this.password, optional: this.optional || this.rmempty, disabled: this.readonlyNow, sort: this.keylist };
		return this.choices ? new L.ui.Combobox(value, this.choices, options) : new L.ui.Textfield(value, options);
	},

	/** The input alone. */
	renderWidget(id, _index, value) {
		const widget = this.widget(id, value ?? this.default);
		const node = widget.render();
		widget.check = () => this.checkShown(id);
		this.shown[id] = { widget, node, active: true };
		return node;
	},

	/** The input beside its title, or in a table's cell. */
	async render(index, id, inTable) {
		const node = await this.renderWidget(id, index, this.cfgvalue(id));
		if (this.onchange)
			node.addEventListener('widget-change', (event) => this.onchange(event, id, this.formvalue(id)));
		const description = this.description ? E('div', { class: 'cbi-value-description' }, this.description) : null;
		const title = this.titleFn('title', id) ?? '';
		const row = inTable
			? E('td', { class: 'td cbi-value-field', 'data-title': L.dom.elem(title) ? title.textContent : title, 'data-name': this.option }, [ node ])
			: E('div', { class: 'cbi-value', 'data-name': this.option, id: `cbi-${this.config}-${id}-${this.option}` }, [
				title ? E('label', { class: 'cbi-value-title', for: `widget.${this.cbid(id)}` }, [ title ]) : null,
				E('div', { class: 'cbi-value-field' }, [ node, description ]),
			]);
		if (this.shown[id])
			this.shown[id].row = row;
		return row;
	},

	isActive(id) {
		return this.shown[id]?.active === true;
	},

	getUIElement(id) {
		return this.shown[id]?.widget ?? null;
	},

	formvalue(id) {
		return this.shown[id]?.widget?.getValue() ?? null;
	},

	/** Whether what it depends on is so. */
	holds(id) {
		if (!this.deps.length)
			return true;
		return this.deps.some((all) => Object.entries(all).every(([ name, wanted ]) => {
			if (name.startsWith('!'))
				return true;
			const option = this.section.options().find((known) => known.option == name.split('.').pop());
			if (!option?.isActive(id))
				return false;
			const value = option.formvalue(id);
			if (wanted instanceof RegExp)
				return wanted.test(value ?? '');
			return L.dom && (Array.isArray(value) ? value.includes(wanted) : String(value ?? '') == String(wanted));
		}) != (all['!reverse'] === true));
	},

	/** Shows or hides it; gives whether that was a change. */
	checkDepends(id) {
		const at = this.shown[id];
		if (!at)
			return false;
		const active = this.holds(id), changed = at.active != active;
		at.active = active;
		if (at.row)
			at.row.classList.toggle('hidden', !active);
		return changed;
	},

	validate: () => true,

	/** What is wrong with what was typed; null for nothing. */
	problem(id) {
		const value = this.formvalue(id);
		if (empty(value))
			return this.optional || this.rmempty ? this.own(id, value) : _('Option "%s" must not be empty.').format(this.stripTags(this.title || this.option));
		const wrong = this.datatype ? L.toArray(Array.isArray(value) ? value : [ value ]).map((one) => problem(this.datatype, one)).find((found) => found !== null) : null;
		return wrong ? _('Expecting: %s').format(wrong) : this.own(id, value);
	},

	own(id, value) {
		// Lists are looked at one by one.
		for (const one of Array.isArray(value) && value.length ? value : [ empty(value) ? '' : value ]) {
			const verdict = this.validate(id, one);
			if (verdict !== true)
				return verdict || _('Expecting: %s').format(_('valid value'));
		}
		return null;
	},

	isValid(id) {
		return !this.isActive(id) || this.problem(id) === null;
	},

	getValidationError(id) {
		return this.problem(id) ?? '';
	},

	triggerValidation(id) {
		this.checkShown(id);
		return this.isValid(id);
	},

	/** Marks the input as wrong, with what is. */
	checkShown(id) {
		const { node } = this.shown[id];
		const input = node.querySelector?.('input, select, textarea');
		const wrong = this.problem(id);
		input?.classList.toggle('cbi-input-invalid', wrong !== null);
		node.querySelector?.('.cbi-tooltip-error')?.remove();
		if (wrong) {
			node.dataset.error = wrong;
			node.appendChild(E('div', { class: 'cbi-tooltip-error', role: 'alert' }, [ wrong ]));
		}
		else {
			delete node.dataset.error;
		}
		return wrong;
	},

	async parse(id) {
		const at = this.shown[id];
		if (!at?.widget || this.readonlyNow)
			return;
		if (!at.active) {
			if (!this.retain && this.cfgvalue(id) !== null)
				await this.remove(id);
			return;
		}
		const wrong = this.checkShown(id);
		if (wrong)
			throw new TypeError(`${_('Option "%s" contains an invalid input value.').format(this.stripTags(this.title || this.option))} ${wrong}`);
		const now = this.formvalue(id), before = this.cfgvalue(id);
		if (!empty(now) && (!this.rmempty || String(now) != String(this.default))) {
			if (this.forcewrite || String(now) != String(before ?? '') || Array.isArray(now) != Array.isArray(before))
				await this.write(id, now);
		}
		else if (before !== null && (empty(now) || this.rmempty)) {
			await this.remove(id);
		}
	},

	write(id, value) {
		return this.map.data.set(this.uciconfig ?? this.config, this.ucisection ?? id, this.ucioption ?? this.option, value);
	},

	remove(id) {
		return this.map.data.unset(this.uciconfig ?? this.config, this.ucisection ?? id, this.ucioption ?? this.option);
	},

	textvalue(id) {
		const value = this.cfgvalue(id) ?? this.default;
		return value === null ? null : this.choices?.[value] ?? (Array.isArray(value) ? value.map((one) => this.choices?.[one] ?? one).join(', ') : value);
	},
});

export const DynamicList = Value.extend({
	__name__: 'form.DynamicList',
	widget(id, value) {
		return new L.ui.DynamicList(L.toArray(value), this.choices, { id: `widget.${this.cbid(id)}`, placeholder: this.placeholder, disabled: this.readonlyNow });
	},
});

export const ListValue = Value.extend({
	__name__: 'form.ListValue',
	widget(id, value) {
		const options = { id: `widget.${this.cbid(id)}`, optional: this.optional, placeholder: this.placeholder, disabled: this.readonlyNow, sort: this.keylist };
		return new L.ui.Select(value, this.choices ?? {}, options);
	},
});

export const RichListValue = ListValue.extend({
	__name__: 'form.RichListValue',
	value(key, text) {
		ListValue.prototype.value.call(this, key, text);
	},
});

export const MultiValue = Value.extend({
	__name__: 'form.MultiValue',
	widget(id, value) {
		return new L.ui.Dropdown(L.toArray(value), this.choices ?? {}, { id: `widget.${this.cbid(id)}`, multiple: true, optional: true, create: this.create, sort: this.keylist, disabled: this.readonlyNow });
	},
});

export const Flag = Value.extend({
	__name__: 'form.Flag',
	enabled: '1',
	disabled: '0',
	__init__(...args) {
		Value.prototype.__init__.apply(this, args);
		this.default = this.disabled;
	},
	widget(id, value) {
		return new L.ui.Checkbox(value, { id: `widget.${this.cbid(id)}`, value_enabled: this.enabled, value_disabled: this.disabled, disabled: this.readonlyNow });
	},
	textvalue(id) {
		return (this.cfgvalue(id) ?? this.default) == this.enabled ? _('Yes') : _('No');
	},
	async parse(id) {
		if (this.readonlyNow || !this.shown[id])
			return;
		const now = this.formvalue(id), before = this.cfgvalue(id);
		if (!this.isActive(id) || (now == this.default && (this.optional || this.rmempty))) {
			if (before !== null && !(this.isActive(id) === false && this.retain))
				await this.remove(id);
		}
		else if (now != before) {
			await this.write(id, now);
		}
	},
});

export const TextValue = Value.extend({
	__name__: 'form.TextValue',
	widget(id, value) {
		return new L.ui.Textarea(value, { id: `widget.${this.cbid(id)}`, rows: this.rows, wrap: this.wrap, placeholder: this.placeholder, disabled: this.readonlyNow });
	},
});

export const HiddenValue = Value.extend({
	__name__: 'form.HiddenValue',
	widget: (_id, value) => new L.ui.Hiddenfield(value),
});

export const DummyValue = Value.extend({
	__name__: 'form.DummyValue',
	renderWidget(id, _index, value) {
		const node = E('div', {});
		const shown = value ?? this.default ?? '';
		L.dom.content(node, this.rawhtml || L.dom.elem(shown) ? shown : [ shown ]);
		this.shown[id] = { widget: null, node, active: true };
		return node;
	},
	parse() {},
	write() {},
	remove() {},
});

export const Button = Value.extend({
	__name__: 'form.Button',
	renderWidget(id) {
		const handler = L.ui.createHandlerFn(this, function(event) {
			return this.onclick?.(event, id);
		});
		const text = this.titleFn('inputtitle', id) ?? this.titleFn('title', id);
		const button = E('button', { class: `cbi-button cbi-button-${this.inputstyle ?? 'button'}`, click: handler, disabled: this.readonlyNow ? '' : null }, [ text ]);
		const node = E('div', {}, [ button ]);
		this.shown[id] = { widget: null, node, active: true };
		return node;
	},
	parse() {},
	textvalue: () => null,
});

/** A section within an option. */
export const SectionValue = Value.extend({
	__name__: 'form.SectionValue',
	__init__(map, section, option, Class, ...args) {
		Value.prototype.__init__.call(this, map, section, option);
		this.subsection = new Class(map, ...args);
	},
	load() {
		return this.subsection.load();
	},
	async renderWidget(id) {
		const node = await this.subsection.render();
		this.shown[id] = { widget: null, node, active: true };
		return node;
	},
	checkDepends(id) {
		return Value.prototype.checkDepends.call(this, id) || this.subsection.checkDepends();
	},
	parse() {
		return this.subsection.parse();
	},
	write() {},
	remove() {},
});
