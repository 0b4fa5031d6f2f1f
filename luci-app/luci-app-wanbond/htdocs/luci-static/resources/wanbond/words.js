'use strict';
'require baseclass';

/*
 * The daemon's words as people say them, each with a tone: `good`, `busy`, `warn`, `bad` or `idle`. Tones have
 * a colour and a sign of their own, so nobody needs to tell colours apart.
 */

const SIGNS = { good: '✓', busy: '…', warn: '!', bad: '✕', idle: '‖' };

function entry(table, word) {
	return Object.prototype.hasOwnProperty.call(table, word) ? table[word] : null;
}

return baseclass.extend({
	sign(tone) {
		return SIGNS[tone] ?? '?';
	},

	/* Whether a WAN is to carry nothing: off by its configured role, or paused by hand. */
	isIdle(wan) {
		return wan.state == 'off' || wan.state == 'paused';
	},

	/* What a WAN does at the moment. */
	wanState(wan) {
		if (wan.quota?.exhausted && wan.state == 'up')
			return { text: _('quota used up'), tone: 'warn' };

		if (wan.standby && wan.state == 'up')
			return { text: _('standing by'), tone: 'good' };

		return entry({
			up: { text: _('up'), tone: 'good' },
			degraded: { text: _('bad line'), tone: 'warn' },
			probing: { text: _('trying'), tone: 'busy' },
			down: { text: _('down'), tone: 'bad' },
			off: { text: _('switched off'), tone: 'idle' },
			paused: { text: _('paused'), tone: 'idle' }
		}, wan.state) ?? { text: String(wan.state ?? '?'), tone: 'warn' };
	},

	/* All roles, in the order they are offered. */
	roles() {
		return [
			{ word: 'bond', text: _('Bond'), hint: _('always used, together with the others') },
			{ word: 'overflow', text: _('Overflow'), hint: _('used when the others are full, as for a metered link') },
			{ word: 'backup', text: _('Backup'), hint: _('used only while no other works') },
			{ word: 'off', text: _('Off'), hint: _('never used') }
		];
	},

	role(word) {
		return this.roles().find(role => role.word == word)?.text ?? String(word ?? '?');
	},

	serverState(state) {
		return entry({
			connected: { text: _('connected'), tone: 'good' },
			standby: { text: _('standing by'), tone: 'good' },
			connecting: { text: _('connecting'), tone: 'busy' },
			unknown_router: { text: _('does not know this router'), tone: 'bad' },
			wrong_key: { text: _('has another key'), tone: 'bad' },
			unreachable: { text: _('does not answer'), tone: 'bad' },
			unresolved_name: { text: _('name not found'), tone: 'bad' },
			version_mismatch: { text: _('speaks another version'), tone: 'bad' },
			no_wan: { text: _('no link to reach it'), tone: 'bad' },
			off: { text: _('switched off'), tone: 'idle' },
			unknown: { text: _('not asked yet'), tone: 'busy' }
		}, state) ?? { text: String(state ?? '?'), tone: 'warn' };
	},

	/* How TCP goes over a WAN. */
	mptcp(state) {
		return entry({
			working: _('multipath TCP'),
			stripped: _('through the tunnel: the provider removes multipath TCP'),
			unsupported: _('through the tunnel: no multipath TCP in this kernel')
		}, state) ?? '';
	},

	/* The ways flows go, in the order of the document. */
	ways() {
		return [
			{ word: 'mptcp', text: _('multipath TCP') },
			{ word: 'tcp', text: _('plain TCP') },
			{ word: 'stream', text: _('tunnel, as streams') },
			{ word: 'packet', text: _('tunnel, as packets') },
			{ word: 'direct', text: _('directly, not bonded') }
		];
	}
});
