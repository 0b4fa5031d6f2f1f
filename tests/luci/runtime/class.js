// Classes as LuCI's modules write them: `base.extend({ method() {…} })`, `this.super('method', [args])`.

/** The class that all others extend. */
export class Base {
	constructor(...args) {
		this.__init__?.(...args);
	}

	/** Calls what a method was before the class that calls it has replaced it. */
	super(name, args) {
		const levels = this.__super__ ??= new Map();
		let level = levels.get(name) ?? Object.getPrototypeOf(this);
		// From the class of the method that runs upwards, to the next that has one of its own.
		while (level && !Object.hasOwn(level, name))
			level = Object.getPrototypeOf(level);
		level = Object.getPrototypeOf(level ?? Object.prototype);
		while (level && !Object.hasOwn(level, name))
			level = Object.getPrototypeOf(level);
		if (typeof level?.[name] != 'function')
			return level?.[name] ?? null;
		levels.set(name, level);
		try {
			return level[name].apply(this, args ?? []);
		}
		finally {
			levels.delete(name);
		}
	}

	varargs(args, offset, ...before) {
		return [ ...before, ...Array.prototype.slice.call(args, offset) ];
	}

	toString() {
		return `[${this.constructor.displayName}]`;
	}

	static extend(properties) {
		const Parent = this;
		const Class = class extends Parent {};
		Class.displayName = properties.__name__ ?? `${Parent.displayName ?? 'Base'}+`;
		for (const [ name, value ] of Object.entries(Object.getOwnPropertyDescriptors(properties)))
			if (name != '__name__')
				Object.defineProperty(Class.prototype, name, { ...value, configurable: true });
		return Class;
	}

	static singleton(properties, ...args) {
		return new (this.extend(properties))(...args);
	}

	static instantiate(args) {
		return new this(...args);
	}

	static isSubclass(Class) {
		return typeof Class == 'function' && Class.prototype instanceof this;
	}
}

/** A class of the runtime's own, with `extend` and `super` as above. */
export const define = (name, properties, Parent = Base) => Parent.extend({ __name__: name, ...properties });
