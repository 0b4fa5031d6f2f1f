'use strict';
'require baseclass';
'require form';
'require uci';
'require wanbond.palette as palette';

/*
 * What the pages with settings have in common.
 */

return baseclass.extend({
	/* Loads the configuration; whether this login may read it, as it holds the pairing codes. */
	load() {
		return palette.ready().then(() => uci.load('wanbond')).then(() => true, () => false);
	},

	/* In place of settings that this login may not see. `page` loses its buttons. */
	denied(page) {
		const node = E('div', { 'class': 'wb' }, [
			E('p', { 'class': 'alert-message warning' }, [
				_('This login may look, but not set up. It takes the right to change “%s”.').format('luci-app-wanbond-config')
			])
		]);

		page.handleSaveApply = page.handleSave = page.handleReset = null;
		return node;
	},

	/* A table whose rows are named by whoever adds them. `title(name)` heads the window of a row. */
	table(map, type, add, title) {
		const s = map.section(form.GridSection, type);

		s.addremove = true;
		s.nodescriptions = true;
		s.addbtntitle = add;
		s.modaltitle = title;
		s.renderSectionAdd = function(...args) {
			const node = form.GridSection.prototype.renderSectionAdd.apply(this, args);
			const input = node.querySelector('input');

			if (input) {
				input.placeholder = _('Name');
				input.setAttribute('aria-label', _('Name'));
			}

			return node;
		};

		return s;
	},

	/* Names a switch for screen readers by `name(id)`; LuCI does not. */
	named(o, name) {
		o.renderWidget = function(id, ...args) {
			const node = form.Flag.prototype.renderWidget.call(this, id, ...args);

			node.querySelector('input[type="checkbox"]')?.setAttribute('aria-label', name(id));
			return node;
		};

		return o;
	},

	/* The switch in a row. */
	enabled(s) {
		const o = this.named(s.option(form.Flag, 'enabled', _('Enabled')), id => _('%s is enabled').format(id));

		o.default = '1';
		o.editable = true;
		return o;
	},

	render(map) {
		return map.render().then(node => {
			node.classList.add('wb', 'wb-form');
			palette.dress(node);
			return node;
		});
	}
});
