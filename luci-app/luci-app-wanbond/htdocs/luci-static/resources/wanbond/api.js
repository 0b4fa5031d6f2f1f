'use strict';
'require baseclass';
'require rpc';
'require wanbond.sentences as sentences';

/*
 * The daemon's ubus object `wanbond`. Each call resolves with the daemon's document or rejects with a Failure
 * that says in words what is the matter.
 */

/* ubus' own numbers for what went wrong. */
const METHOD_NOT_FOUND = 3, NOT_FOUND = 4, PERMISSION_DENIED = 6, TIMEOUT = 7, CONNECTION_FAILED = 10;

class Failure extends Error {
	/*
	 * kind: `daemon` it is not running, `newer` it is too old for this, `denied` this login may not,
	 * `network` the router does not answer, `refused` the daemon said no (the message is its sentence).
	 */
	constructor(kind, message, code) {
		super(message);
		this.name = 'WanbondFailure';
		this.kind = kind;
		/* The daemon's word for it, where it gave one. */
		this.code = code;
	}
}

function daemonIsDown() {
	return new Failure('daemon', _('The wanbond service is not running.'));
}

function notAllowed() {
	return new Failure('denied', _('This login may not do that.'));
}

/* What a status without a document means. */
function failureOf(code) {
	switch (code) {
	case METHOD_NOT_FOUND:
		return new Failure('newer', _('This needs a newer version of the wanbond service on the router.'));
	case NOT_FOUND:
	case CONNECTION_FAILED:
		return daemonIsDown();
	case PERMISSION_DENIED:
		return notAllowed();
	case TIMEOUT:
		return new Failure('network', _('The wanbond service did not answer in time.'));
	default:
		return new Failure('refused', _('The wanbond service refused this (%s).').format(rpc.getStatusText(code)));
	}
}

/* An error is answered by its code and one sentence, and nothing else. */
function isErrorDocument(reply) {
	const keys = Object.keys(reply);

	return keys.length == 2 && typeof(reply.code) == 'string' && typeof(reply.message) == 'string';
}

function checked(reply) {
	if (typeof(reply) == 'number') {
		if (reply != 0)
			throw failureOf(reply);

		return {};
	}

	if (!L.isObject(reply))
		throw new Failure('network', _('The router gave an answer that makes no sense.'));

	if (isErrorDocument(reply))
		throw new Failure('refused', sentences.say(reply.message), reply.code);

	return reply;
}

/* Errors of the transport carry uhttpd's code in their text only. */
function failed(error) {
	const code = /failed with error (-\d+)/.exec(error?.message ?? '');

	if (code?.[1] == '-32000')
		throw daemonIsDown();

	if (code?.[1] == '-32002' || error?.name == 'SessionError')
		throw notAllowed();

	throw new Failure('network', _('The router does not answer.'));
}

function declare(method, ...params) {
	const call = rpc.declare({ object: 'wanbond', method, params });

	return (...args) => call(...args).then(checked, failed);
}

/* A method whose answer has sentences for people. */
function declareSaying(method, ...params) {
	const call = declare(method, ...params);

	return (...args) => call(...args).then(answer => sentences.document(answer));
}

return baseclass.extend({
	Failure,

	status: declareSaying('status'),
	history: declare('history', 'name', 'seconds'),
	diagnose: declareSaying('diagnose'),
	support: declare('support'),

	/* Until the next start of the daemon: action is `up`, `down` or `role`. */
	wan: declare('wan', 'name', 'action', 'role'),

	/* These start a task; see `wanbond.tasks`. */
	pairing: declareSaying('pairing', 'code'),
	speedtest: declareSaying('speedtest', 'name', 'seconds'),
	drill: declareSaying('drill', 'name', 'seconds'),
	task: declareSaying('task', 'id', 'cancel')
});
