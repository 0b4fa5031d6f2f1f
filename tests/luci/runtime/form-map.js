// Forms as a whole: what sections and options share, and the map that loads, checks and saves.

import { Base } from './class.js';

/** Whatever has children and a title. */
export const Node = Base.extend({
	__name__: 'form.AbstractElement',
	__init__(title, description) {
		this.title = title ?? '';
		this.description = description ?? '';
		this.children = [];
	},
	append(child) {
		this.children.push(child);
	},
	stripTags: (text) => E('div', {}, text).textContent,
	titleFn(name, ...args) {
		const given = this[name];
		return typeof given == 'function' ? given.apply(this, args) : given || null;
	},
});

/** A store like L.uci for plain objects, for JSONMap. */
const Json = Base.extend({
	__name__: 'form.json',
	__init__(data) {
		this.data = Object.fromEntries(Object.entries(data).flatMap(([ type, found ]) => (Array.isArray(found)
			? found.map((section, at) => [ `${type}${at}`, section, type ])
			: [ [ type, found, type ] ])).map(([ id, section, kind ], index) => [ id, Object.assign(section, {
			'.name': id, '.type': kind, '.anonymous': false, '.index': index }) ]));
	},
	load: () => Promise.resolve(),
	save: () => Promise.resolve(),
	get(_config, id, option) {
		return (option ? this.data[id]?.[option] : this.data[id]) ?? null;
	},
	set(_config, id, option, value) {
		this.data[id][option] = value;
	},
	unset(_config, id, option) {
		delete this.data[id][option];
	},
	sections(_config, type) {
		return Object.values(this.data).filter((section) => !type || section['.type'] == type);
	},
	add(_config, type, name) {
		this.data[name] = { '.name': name, '.type': type, '.anonymous': false, '.index': Object.keys(this.data).length };
		return name;
	},
	remove(_config, id) {
		delete this.data[id];
	},
	move: () => true,
});

export const Map = Node.extend({
	__name__: 'form.Map',

	__init__(config, title, description) {
		Node.prototype.__init__.call(this, title, description);
		this.config = config;
		this.parsechain = [ config ];
		this.data = L.uci;
		this.readonly = !L.hasViewPermission();
	},

	section(Class, ...args) {
		const section = new Class(this, ...args);
		section.map = this;
		this.append(section);
		return section;
	},

	chain(config) {
		if (!this.parsechain.includes(config))
			this.parsechain.push(config);
	},

	async load() {
		await this.data.load(this.parsechain);
		await Promise.all(this.children.map((section) => section.load()));
	},

	async render() {
		await this.load();
		return this.renderContents();
	},

	async renderContents() {
		this.root ??= E('div', { class: 'cbi-map', id: `cbi-${this.config}` });
		L.dom.bindClassInstance(this.root, this);
		const shown = await Promise.all(this.children.map((section) => section.render()));
		const tabbed = this.tabbed;
		L.dom.content(this.root, [
			this.title ? E('h2', { name: 'content' }, [ this.title ]) : null,
			this.description ? E('div', { class: 'cbi-map-descr' }, this.description) : null,
			...shown,
		]);
		if (tabbed) {
			shown.forEach((pane, at) => {
				pane.dataset.tab = this.children[at].sectiontype;
				pane.dataset.tabTitle = this.children[at].title;
			});
			L.ui.tabs.initTabGroup(shown);
		}
		if (!this.root.dataset.follows) {
			this.root.dataset.follows = 'yes';
			this.root.addEventListener('widget-change', () => this.checkDepends());
		}
		this.checkDepends();
		return this.root;
	},

	/** Shows each option whose dependencies hold, hides the others. */
	checkDepends() {
		for (let changes = true, round = 0; changes && round < 10; round++)
			changes = this.children.map((section) => section.checkDepends()).includes(true);
	},

	async parse() {
		for (const section of this.children)
			await section.parse();
	},

	async save(before, silent) {
		this.checkDepends();
		try {
			await this.parse();
		}
		catch (error) {
			if (!silent)
				L.ui.addNotification(_('Save error'), [ E('p', {}, [ _('An error occurred while saving the form:') ]), E('p', {}, [ error.message ]) ], 'danger');
			throw error;
		}
		if (before)
			await before.call(this);
		await this.data.save();
		await L.ui.changes.init();
		await this.reset();
	},

	async reset() {
		await this.load();
		return this.renderContents();
	},

	lookupOption(name, id, config = this.config) {
		for (const section of this.children)
			for (const option of section.options())
				if (option.option == name && option.config == config && (!id || section.cfgsections().includes(id)))
					return [ option, id ?? section.cfgsections()[0] ];
		return null;
	},
});

export const JSONMap = Map.extend({
	__name__: 'form.JSONMap',
	__init__(data, title, description) {
		Map.prototype.__init__.call(this, 'json', title, description);
		this.data = new Json(data);
		this.parsechain = [];
	},
});
