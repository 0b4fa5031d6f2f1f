// E() and L.dom. As in LuCI, an array's strings become text, while a lone string becomes HTML: views have
// to hand what they did not write themselves over in an array.

const kept = new WeakMap();
const instances = new WeakMap();

const isNode = (value) => value instanceof Node;

export const dom = {
	elem: (value) => value instanceof Element,
	parse: (html) => document.createRange().createContextualFragment(html.trim()).firstChild,
	matches: (node, selector) => dom.elem(node) && node.matches(selector),
	parent: (node, selector) => (dom.elem(node) ? node.closest(selector) : null),

	append(node, children) {
		if (!isNode(node))
			return null;
		if (Array.isArray(children)) {
			for (const child of children) {
				if (Array.isArray(child) || typeof child == 'function')
					dom.append(node, child);
				else if (child !== null && child !== undefined)
					node.appendChild(isNode(child) ? child : document.createTextNode(`${child}`));
			}
			return node.lastChild;
		}
		if (typeof children == 'function')
			return dom.append(node, children(node));
		if (isNode(children))
			return node.appendChild(children);
		if (children !== null && children !== undefined) {
			node.innerHTML = `${children}`;
			return node.lastChild;
		}
		return null;
	},

	content(node, children) {
		if (!isNode(node))
			return null;
		node.replaceChildren();
		return dom.append(node, children);
	},

	attr(node, name, value) {
		if (!dom.elem(node))
			return null;
		if (typeof name != 'object')
			name = { [name]: value };
		for (const [ key, given ] of Object.entries(name ?? {})) {
			if (given === null || given === undefined)
				continue;
			if (typeof given == 'function')
				node.addEventListener(key, given);
			else
				node.setAttribute(key, typeof given == 'object' ? JSON.stringify(given) : given);
		}
		return null;
	},

	create(html, attributes, children) {
		if (Array.isArray(attributes) || isNode(attributes) || typeof attributes == 'string')
			[ attributes, children ] = [ null, attributes ];
		let node;
		if (isNode(html)) {
			node = html;
		}
		else if (Array.isArray(html)) {
			node = document.createDocumentFragment();
			html.forEach((child) => node.appendChild(dom.create(child)));
		}
		else {
			node = html.startsWith('<') ? dom.parse(html) : document.createElement(html);
		}
		dom.attr(node, attributes ?? {});
		dom.append(node, children);
		return node;
	},

	data(node, name, value) {
		const data = kept.get(node) ?? kept.set(node, {}).get(node);
		if (name === undefined)
			return data;
		if (value !== undefined)
			data[name] = value;
		return data[name] ?? null;
	},

	bindClassInstance(node, instance) {
		instances.set(node, instance);
		return instance;
	},

	findClassInstance(node) {
		for (; node; node = node.parentNode)
			if (instances.has(node))
				return instances.get(node);
		return null;
	},

	callClassMethod(node, name, ...args) {
		const instance = dom.findClassInstance(node);
		return typeof instance?.[name] == 'function' ? instance[name](...args) : null;
	},

	isEmpty: (node, ignore) => [ ...node?.children ?? [] ].every((child) =>
		child.classList.contains('hidden') || child.style.display == 'none' || ignore?.(child)),
};

export const E = (...args) => dom.create(...args);
