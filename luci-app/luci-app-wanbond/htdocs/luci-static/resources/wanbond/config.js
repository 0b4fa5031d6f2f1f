'use strict';
'require baseclass';
'require rpc';
'require uci';

/*
 * /etc/config/wanbond: what is right in it, and what Setup makes of it. Checks are the daemon's own, so that a
 * mistake is told before it is saved.
 */

const callApply = rpc.declare({ object: 'uci', method: 'apply', params: [ 'timeout', 'rollback' ], reject: true });

/* The name of a section may have these characters only. */
function sectionName(text, taken) {
	const base = text.replace(/[^A-Za-z0-9_]/g, '_') || 'wan';
	let name = base;

	for (let i = 2; taken.includes(name); i++)
		name = '%s%d'.format(base, i);

	taken.push(name);
	return name;
}

function isDisabled(section) {
	return [ '0', 'no', 'off', 'false', 'disabled' ].includes(section.enabled);
}

return baseclass.extend({
	sectionName,

	/* Whether a text looks like a whole pairing code; blanks and line breaks from copying are gone over. */
	cleanCode(text) {
		return String(text ?? '').replace(/\s+/g, '');
	},

	/* True, or what is wrong, as form options want it. */
	checkCode(text) {
		const code = String(text ?? '').trim();

		if (!/^wanbond\d+:/.test(code))
			return _('A pairing code begins with “wanbond1:”. The server prints it: wanbond-setup add-router NAME');

		if (!/^wanbond1:[A-Za-z0-9_-]+$/.test(code))
			return _('A pairing code has letters, digits, - and _ only behind its colon. Copy it whole, in one piece.');

		/* Two keys of 32 bytes and at least one endpoint. */
		return code.length >= 9 + 86 || _('This pairing code is cut off. Copy it whole.');
	},

	checkQuota(text) {
		return /^\d+(\.\d{1,9})?\s*(|b|kb|mb|gb|tb|kib|mib|gib|tib)$/i.test(String(text ?? '').trim())
			|| _('A quota is a number and a unit, such as 50 GB or 1.5 TB.');
	},

	checkPorts(text) {
		const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(String(text ?? ''));
		const from = Number(match?.[1]), to = Number(match?.[2] ?? match?.[1]);

		return (match != null && from >= 1 && from <= to && to <= 65535)
			|| _('A port is a number from 1 to 65535, or a range such as 5060-5070.');
	},

	checkDomain(text) {
		const name = String(text ?? '');

		if (name.startsWith('*.'))
			return _('What is below a domain is meant anyway. Write it without “*.”');

		return /^(?=.{1,253}$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*$/.test(name)
			|| _('A domain is a name such as example.net.');
	},

	/*
	 * What Setup changes: `sections` are those of the configuration, `wish` is { code, links: [{ interface, device,
	 * use, role }], lans }. A code that is empty keeps the server that is there. The edits, in order:
	 * { add: type, name }, { set: name, option, value }, { unset: name, option }. Nothing is deleted: a link that is
	 * not wanted any more is switched off, with its quota kept.
	 */
	plan(sections, wish) {
		const edits = [];
		const taken = sections.map(section => section['.name']);
		const of = type => sections.filter(section => section['.type'] == type);
		const set = (section, option, value) => {
			const now = section[option];
			const same = Array.isArray(value) ? JSON.stringify([].concat(now ?? [])) == JSON.stringify(value) : now == value;

			if (!same)
				edits.push({ set: section['.name'], option, value });
		};
		const add = (type, name) => {
			const section = { '.type': type, '.name': sectionName(name, taken) };

			edits.push({ add: type, name: section['.name'] });
			return section;
		};
		const enable = section => {
			if (isDisabled(section))
				edits.push({ unset: section['.name'], option: 'enabled' });
		};

		if (wish.code) {
			const servers = of('server');
			const same = servers.find(server => server.code == wish.code);
			/* Of several, each has been added on purpose: a new code is one more, a single one is replaced. */
			const server = same ?? (servers.length == 1 ? servers[0] : add('server', 'vps'));

			enable(server);
			set(server, 'code', wish.code);
		}

		for (const link of wish.links) {
			const had = of('wan').find(wan => wan.interface != null ? wan.interface == link.interface : wan.device != null && wan.device == link.device);

			if (!link.use) {
				if (had && !isDisabled(had))
					edits.push({ set: had['.name'], option: 'enabled', value: '0' });

				continue;
			}

			const wan = had ?? add('wan', link.interface || link.device);

			enable(wan);

			if (!had)
				set(wan, link.interface ? 'interface' : 'device', link.interface || link.device);

			if ((wan.role ?? 'bond') != link.role)
				set(wan, 'role', link.role);
		}

		const globals = of('wanbond')[0] ?? add('wanbond', 'globals');

		set(globals, 'lan', wish.lans);
		set(globals, 'enabled', '1');

		return edits;
	},

	/* Carries edits out in LuCI's copy of the configuration; nothing has left the browser yet. */
	edit(edits) {
		for (const edit of edits) {
			if (edit.add)
				uci.add('wanbond', edit.add, edit.name);
			else if (edit.set)
				uci.set('wanbond', edit.set, edit.option, edit.value);
			else
				uci.unset('wanbond', edit.unset, edit.option);
		}
	},

	/*
	 * Saves the edits and has them applied. There is no roll-back to wait for: how the router is reached from the
	 * LAN does not change.
	 */
	apply(edits) {
		this.edit(edits);

		return uci.save().then(() => callApply(0, false));
	}
});
