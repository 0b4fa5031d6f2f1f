// L, and the view of this page.

import { Base } from './class.js';
import { dom, E } from './dom.js';
import { speak, translate, translatePlural } from './language.js';
import { modules, require } from './modules.js';
import { Poll } from './poll.js';

class NamedError extends Error {
	constructor(type, text) {
		super(text);
		this.name = type ?? 'Error';
	}
}

const env = JSON.parse(document.getElementById('env').textContent);
const features = { firewall: true, firewall4: true, ipv6: true };

const L = {
	env, dom, require, Class: Base,
	Poll: new Poll(),
	bind: (f, self, ...args) => f.bind(self, ...args),
	url: (...parts) => [ env.scriptname, ...parts ].join('/'),
	path: (prefix, parts) => [ prefix, ...parts.flat() ].join('/'),
	resource: (...parts) => [ env.resource, ...parts ].join('/'),
	media: (...parts) => [ env.media, ...parts ].join('/'),
	location: () => L.url(...env.requestpath),
	isObject: (value) => value !== null && typeof value == 'object',
	isArguments: (value) => Object.prototype.toString.call(value) == '[object Arguments]',
	naturalCompare: (a, b) => String(a).localeCompare(String(b), undefined, { numeric: true }),
	sortedKeys: (object, key) => Object.keys(object ?? {}).sort((a, b) => L.naturalCompare(key ? object[a][key] : a, key ? object[b][key] : b)),
	sortedArray: (array) => array.sort(L.naturalCompare),
	toArray: (value) => (value === null || value === undefined ? [] : Array.isArray(value) ? value
		: typeof value == 'object' ? [ value ] : String(value).trim() ? String(value).trim().split(/\s+/) : []),
	resolveDefault: (value, otherwise) => Promise.resolve(value).catch(() => otherwise),
	hasSystemFeature: (feature) => features[feature] === true,
	hasViewPermission: () => !env.nodespec.readonly,
	raise(type, text, ...args) {
		throw new NamedError(type, String(text).format(...args));
	},
	error(type, text, ...args) {
		const error = type instanceof Error ? type : new NamedError(type, String(text).format(...args));
		L.ui.addNotification(error.name, [ E('pre', {}, [ error.message ]) ], 'danger');
		console.error(error);
		throw error;
	},

	/** Once a call was denied and the session is not known any more: says so, and stops asking. */
	notifySessionExpiry() {
		L.Poll.stop();
		L.ui.showModal(_('Session expired'), [
			E('div', { class: 'alert-message warning' }, [ _('A new login is required since the authentication session expired.') ]),
			E('div', { class: 'right' }, [
				E('button', { class: 'btn primary', click: () => location.reload() }, [ _('Log in…') ]),
			]),
		]);
		throw new NamedError('SessionError', 'Login session is expired');
	},
};

// As the theme does where it is left to the browser.
document.documentElement.dataset.darkmode = String(matchMedia('(prefers-color-scheme: dark)').matches);
Object.assign(globalThis, { L, E, _: translate, N_: translatePlural });
await speak(env.language);
L.rpc = await modules.rpc();
L.ui = await modules.ui();
L.uci = await modules.uci();
L.network = modules.network ? await modules.network() : undefined;

const access = L.rpc.declare({ object: 'session', method: 'access', params: [ 'scope', 'object', 'function' ], expect: { access: false } });
L.rpc.addInterceptor((frame, { object, method }) => {
	if (frame?.error?.code != -32002 || (object == 'session' && method == 'access'))
		return undefined;
	return access('ubus', 'session', 'access').catch(() => L.notifySessionExpiry()).then((known) => known || L.notifySessionExpiry());
});

L.View = await require('view');
const View = await require(`view.${env.nodespec.action.path.replaceAll('/', '.')}`);
globalThis.shownView = View;
