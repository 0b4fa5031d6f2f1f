// tools.widgets: choosers of networks and devices.

import { Base } from './class.js';

const dump = L.rpc.declare({ object: 'network.interface', method: 'dump', expect: { interface: [] } });
const devices = L.rpc.declare({ object: 'luci-rpc', method: 'getNetworkDevices', expect: { '': {} } });

const chooser = async (find) => {
	const { ListValue } = await L.require('form');
	return ListValue.extend({
		async load(id) {
			this.found = await find(this);
			return ListValue.prototype.load.call(this, id);
		},
		widget(id, value) {
			const known = [ ...L.toArray(value), ...this.found ].filter((name) => !this.filter || this.filter(id, name));
			const choices = Object.fromEntries(known.map((name) => [ name, name ]));
			const options = { id: `widget.${this.cbid(id)}`, multiple: this.multiple, optional: this.optional || this.rmempty, create: !this.nocreate && this.create, disabled: this.readonlyNow };
			return new L.ui.Dropdown(value, choices, options);
		},
		textvalue(id) {
			return L.toArray(this.cfgvalue(id)).join(', ') || null;
		},
	});
};

const NetworkSelect = await chooser(async ({ loopback, novirtual: _novirtual }) =>
	(await dump()).map((network) => network.interface).filter((name) => loopback || name != 'loopback'));
const DeviceSelect = await chooser(async () => Object.keys(await devices()));

export const Widgets = Base.extend({ __name__: 'tools.widgets', NetworkSelect, DeviceSelect });
