// The inputs that forms are made of: each renders itself, and gives and takes its value.

import { Base } from './class.js';

let ids = 0;
const changed = (node) => node.dispatchEvent(new CustomEvent('widget-change', { bubbles: true }));

const Element = Base.extend({
	__name__: 'ui.AbstractElement',

	__init__(value, options) {
		this.value = value;
		this.options = { id: `widget.${++ids}`, ...options };
	},

	/** Gives the events of an input within as its own, and checks the value as it is typed. */
	bind(node) {
		this.node = node;
		L.dom.bindClassInstance(node, this);
		const check = () => {
			this.check?.();
			changed(node);
		};
		node.addEventListener('input', check);
		node.addEventListener('change', check);
		return node;
	},

	get input() {
		return this.node.matches('input, select, textarea') ? this.node : this.node.querySelector('input, select, textarea');
	},

	getValue() {
		return this.input.value === '' ? null : this.input.value;
	},

	setValue(value) {
		this.input.value = value ?? '';
	},

	isChanged() {
		return String(this.getValue() ?? '') != String(this.value ?? '');
	},

	get attributes() {
		const { id, name, placeholder, disabled, readonly } = this.options;
		return { id, name, placeholder, disabled: disabled ? '' : null, readonly: readonly ? '' : null };
	},
});

export const AbstractElement = Element;

export const Textfield = Element.extend({
	__name__: 'ui.Textfield',
	render() {
		const password = this.options.password === true;
		return this.bind(E('div', {}, [
			E('input', { ...this.attributes, class: 'cbi-input-text', type: password ? 'password' : 'text', value: this.value ?? '' }),
		]));
	},
});

export const Textarea = Element.extend({
	__name__: 'ui.Textarea',
	render() {
		const area = E('textarea', { ...this.attributes, class: 'cbi-input-textarea', rows: this.options.rows, wrap: this.options.wrap ? '' : null });
		area.value = this.value ?? '';
		return this.bind(E('div', {}, [ area ]));
	},
});

export const Checkbox = Element.extend({
	__name__: 'ui.Checkbox',
	render() {
		const { value_enabled: on = '1' } = this.options;
		const box = E('input', { ...this.attributes, type: 'checkbox', class: 'cbi-input-checkbox' });
		box.checked = this.value == on;
		return this.bind(E('div', { class: 'cbi-checkbox' }, [ box, E('label', { for: this.options.id }) ]));
	},
	isChecked() {
		return this.input.checked;
	},
	getValue() {
		return this.isChecked() ? this.options.value_enabled ?? '1' : this.options.value_disabled ?? '0';
	},
	setValue(value) {
		this.input.checked = value == (this.options.value_enabled ?? '1');
	},
});

export const Hiddenfield = Element.extend({
	__name__: 'ui.Hiddenfield',
	render() {
		return this.bind(E('div', {}, [ E('input', { ...this.attributes, type: 'hidden', value: this.value ?? '' }) ]));
	},
});

const option = (value, text) => E('option', { value }, [ text ?? value ]);
const plain = (text) => (text instanceof Node ? text.textContent : text);

export const Select = Element.extend({
	__name__: 'ui.Select',
	__init__(value, choices, options) {
		Element.prototype.__init__.call(this, value, options);
		this.choices = choices;
	},
	render() {
		const many = this.options.multiple === true;
		const keys = this.options.sort === false || !this.options.sort ? Object.keys(this.choices) : [ this.options.sort ].flat();
		const select = E('select', { ...this.attributes, class: 'cbi-input-select', multiple: many ? '' : null },
			(keys[0] === true ? Object.keys(this.choices).sort() : keys).map((key) => option(key, plain(this.choices[key]))));
		if (this.options.optional && !('' in this.choices) && !many)
			select.prepend(option('', plain(this.options.placeholder) ?? _('-- Please choose --')));
		const node = this.bind(E('div', {}, [ select ]));
		this.setValue(this.value);
		return node;
	},
	getValue() {
		const values = [ ...this.input.selectedOptions ].map(({ value }) => value);
		return this.options.multiple ? values : values[0] ?? null;
	},
	setValue(value) {
		const wanted = L.toArray(value).map(String);
		[ ...this.input.options ].forEach((choice) => choice.selected = wanted.length ? wanted.includes(choice.value) : choice.value == '');
	},
});

/** A choice that takes other values too where `create` allows them. */
export const Dropdown = Select.extend({
	__name__: 'ui.Dropdown',
	render() {
		const own = L.toArray(this.value).filter((value) => !(value in this.choices));
		own.forEach((value) => this.choices = { ...this.choices, [value]: value });
		const node = Select.prototype.render.call(this);
		if (!this.options.create && !this.options.custom)
			return node;
		const field = E('input', { type: 'text', class: 'create-item-input', placeholder: this.options.custom_placeholder ?? _('-- custom --'), 'aria-label': _('custom') });
		field.addEventListener('keydown', (event) => {
			if (event.key == 'Enter') {
				event.preventDefault();
				this.add(field);
			}
		});
		field.addEventListener('blur', () => this.add(field));
		node.appendChild(field);
		return node;
	},
	add(field) {
		const value = field.value.trim();
		if (!value)
			return;
		const select = this.input;
		if (![ ...select.options ].some((known) => known.value == value))
			select.appendChild(option(value));
		this.setValue(this.options.multiple ? [ ...this.getValue(), value ] : value);
		field.value = '';
		select.dispatchEvent(new Event('change', { bubbles: true }));
	},
	addChoices(values, texts) {
		values.filter((value) => !(value in this.choices)).forEach((value) => this.input.appendChild(option(value, plain(texts[value]))));
	},
});

export const Combobox = Dropdown.extend({
	__name__: 'ui.Combobox',
	__init__(value, choices, options) {
		Select.prototype.__init__.call(this, value, choices, { ...options, create: true });
	},
});

/** Several values, one input each, and one for the next. */
export const DynamicList = Element.extend({
	__name__: 'ui.DynamicList',
	__init__(values, choices, options) {
		Element.prototype.__init__.call(this, values, options);
		this.choices = choices;
	},
	render() {
		const list = this.choices ? E('datalist', { id: `${this.options.id}.choices` }, Object.entries(this.choices).map(([ value, text ]) => option(value, plain(text)))) : null;
		const field = E('input', { ...this.attributes, type: 'text', class: 'cbi-input-text', list: list?.id });
		const add = () => {
			if (field.value.trim() && this.add(field.value.trim()))
				field.value = '';
		};
		field.addEventListener('keydown', (event) => {
			if (event.key == 'Enter') {
				event.preventDefault();
				add();
			}
		});
		field.addEventListener('blur', add);
		this.bind(E('div', { class: 'cbi-dynlist' }, [
			E('div', { class: 'add-item control-group' }, [ field, list, E('button', { class: 'btn cbi-button cbi-button-add', 'aria-label': _('Add'), click: (event) => {
				event.preventDefault();
				add();
			} }, [ '+' ]) ]),
		]));
		L.toArray(this.value).forEach((value) => this.add(value));
		return this.node;
	},
	add(value) {
		if (this.getValue().includes(value))
			return true;
		const item = E('div', { class: 'item', tabindex: '0', 'data-value': value, click: () => {
			if (!this.options.disabled) {
				item.remove();
				this.node.dispatchEvent(new Event('change'));
			}
		} }, [ E('span', {}, [ plain(this.choices?.[value]) ?? value ]) ]);
		this.node.insertBefore(item, this.node.lastElementChild);
		this.node.dispatchEvent(new Event('change'));
		return true;
	},
	getValue() {
		return [ ...this.node.querySelectorAll('.item') ].map(({ dataset }) => dataset.value);
	},
	setValue(values) {
		this.node.querySelectorAll('.item').forEach((item) => item.remove());
		L.toArray(values).forEach((value) => this.add(value));
	},
});
