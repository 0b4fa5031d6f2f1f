'use strict';
'require baseclass';

/*
 * Nodes that are made once and then kept up to date: only what changed is written, so nothing flickers, no
 * focus is lost and a screen reader reads nothing twice.
 */

const SVG = 'http://www.w3.org/2000/svg';

return baseclass.extend({
	/* An SVG element. Children are nodes, or text. */
	svg(tag, attributes, children) {
		const node = document.createElementNS(SVG, tag);

		for (const name in attributes)
			this.attr(node, name, attributes[name]);

		for (const child of children ?? [])
			node.appendChild(child instanceof Node ? child : document.createTextNode(child));

		return node;
	},

	text(node, text) {
		if (node.textContent !== text)
			node.textContent = text;

		return node;
	},

	/* Null or false takes the attribute away. */
	attr(node, name, value) {
		if (value == null || value === false) {
			if (node.hasAttribute(name))
				node.removeAttribute(name);
		}
		else if (node.getAttribute(name) !== String(value)) {
			node.setAttribute(name, value === true ? '' : value);
		}

		return node;
	},

	show(node, visible) {
		return this.attr(node, 'hidden', !visible);
	},

	/* A custom property of its style. */
	property(node, name, value) {
		if (node.style.getPropertyValue(name) !== String(value))
			node.style.setProperty(name, value);

		return node;
	},

	/*
	 * Keeps the children of `parent` like `items`: children stay with their key, only new ones are made and only
	 * moved ones are moved. `make(item)` returns an object with `node`; `update(made, item)` brings it up to date.
	 */
	keyed(parent, items, key, make, update) {
		const had = parent.wanbondChildren ?? new Map();
		const have = new Map();
		let at = parent.firstChild;

		for (const item of items) {
			const name = key(item);
			const made = had.get(name) ?? make(item);

			have.set(name, made);
			update?.(made, item);

			if (made.node === at)
				at = at.nextSibling;
			else
				parent.insertBefore(made.node, at);
		}

		for (const [ name, made ] of had)
			if (!have.has(name))
				made.node.remove();

		parent.wanbondChildren = have;
	}
});
