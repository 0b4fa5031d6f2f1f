'use strict';
'require baseclass';
'require wanbond.words as words';

/*
 * What the daemon says, in the language of the page. Its documents carry English sentences, with names and
 * figures in them. As everywhere in gettext the English text is the key: a sentence is recognised by its words,
 * what stands in its places is taken out, and the translation gets it back. What is not known stays as it is.
 *
 * tests/luci/unit/sentences.test.mjs reads the daemon's sources, and names the sentences that are missing here.
 */

/* For translate.py: this text is one to be translated. */
const key = text => text;

const SENTENCES = [
	/* Links: what became of one. */
	key('WAN %s is %s'),
	key('WAN %s is %s: %s'),
	key('WAN %s is paused'),
	key('WAN %s is resumed, its role is %s'),
	key('WAN %s: %s → %s'),
	key('WAN %s: %s'),
	key('WAN %s: MPTCP %s'),
	key('WAN %s: MPTCP working'),
	key('WAN %s: MPTCP stripped'),
	key('WAN %s: MPTCP unsupported'),
	key('WAN %s (%s) is used now'),
	key('WAN %s (%s) stands by again'),
	key('WAN %s has carried %s %% of its %s this month'),
	key('WAN %s has carried %s %% of its %s this month; it is used only in an emergency now'),
	key('WAN %s is so far that TCP is faster without it'),
	key('WAN %s is tried again for TCP'),
	key('WAN %s is cut for a drill of %s s'),
	key('WAN %s is back from its drill'),
	key('switched off'),
	key('not looked at yet'),
	key('no link'),
	key('there is no device %s'),
	key('%s has no carrier, or is switched off'),
	key('%s has no address'),
	key('%s has an address but no default route'),
	key('its address can\'t be used: %s'),
	key('%s is wan %s\'s device, which takes IPv4 and IPv6: remove this section'),
	key('there is no network %s in /etc/config/network'),
	key('network %s is %s'),
	key('being brought up'),
	key('without its device'),
	key('down'),
	key('%s is active and steers the same traffic; run \'/etc/init.d/%s stop\' and \'/etc/init.d/%s disable\', wanbond does without it'),
	key('the server does not answer over it any more'),
	key('the server does not answer over it any more; it has gone %s times in short order, so it must answer steadily before it is used again'),
	key('waiting for the server\'s answer over it'),
	key('something on the way removes MPTCP: connections over it are plain TCP'),
	key('UDP is blocked on the way: the tunnel goes over a TCP connection here'),
	key('it is so far that TCP is faster without it; the tunnel uses it'),

	/* Servers. */
	key('server %s: %s'),
	key('server %s: %s: %s'),
	key('server %s is used instead of %s, which does not answer any more'),
	key('server %s is used instead of %s, which is worse by now'),
	key('it has stopped answering'),
	key('its name can\'t be looked up'),
	key('it does not answer'),
	key('the server does not answer over any WAN'),
	key('the server has stopped answering over every WAN'),
	key('the server\'s name has no address'),
	key('the name of the server can\'t be resolved: %s'),

	/* The daemon. */
	key('wanbond started'),
	key('configuration read again'),
	key('the configuration says so (option tcp \'stream\')'),
	key('this kernel has no MPTCP, or it is switched off'),
	key('something on the way of a WAN removes MPTCP, and lanes would leave that WAN out'),
	key('MPTCP fills the lines\' queues, and everybody\'s packets would wait there'),
	key('TCP goes over streams: MPTCP filled the lines\' queues'),
	key('TCP goes over MPTCP again'),
	key('TCP goes over MPTCP again: streams bring less here'),

	/* Bypass rules. */
	key('bonded'),
	key('over %s'),
	key('through the tunnel'),
	key('bonded, as no WAN is up'),
	key('bonded, as %s is down'),
	key('refused, as %s is down'),
	key('dnsmasq, and the names that connections give themselves'),
	key('the names that connections give themselves (TLS, QUIC, HTTP)'),
	key('the names that connections give themselves (TLS, QUIC, HTTP): %s'),
	key('dnsmasq does not run here'),
	key('this dnsmasq can\'t fill nftables sets (on OpenWrt, install dnsmasq-full in place of dnsmasq)'),
	key('dnsmasq has no folder for more configuration (conf-dir), or option dnsmasq_dir must name it'),
	key('option dnsmasq_restart must say how dnsmasq is started anew'),

	/* Findings, and what to do. */
	key('nothing is wrong as far as can be seen from here'),
	key('its configuration is wrong and not in use: %s'),
	key('correct it and reload; \'wanbond check\' explains what the file means'),
	key('wanbond is switched off by its configuration'),
	key('set option enabled \'1\' in the globals section and reload'),
	key('no server is configured'),
	key('run \'wanbond-server router add NAME\' on the VPS and paste what it prints into a server section'),
	key('the router was removed there, or the code is another server\'s: run \'wanbond-server router add NAME\' and paste the new code'),
	key('the VPS was set up anew: paste a new code'),
	key('look whether DNS works on the router (\'nslookup NAME\'), or pair with the server\'s address instead of a name'),
	key('bring router and server to the same version'),
	key('no WAN has an address: see the WANs below'),
	key('look whether the VPS runs (\'wanbond-server status\' there), and whether its firewall and its provider let port 65101 through, TCP and UDP'),
	key('it is %s'),
	key('it is %s: %s'),
	key('it is switched off by its role'),
	key('it is paused'),
	key('\'wanbond wan %s up\' switches it on'),
	key('look at its cable or modem, at what the provider wants (VLAN, PPPoE name, APN), and whether its interface is up (\'ifstatus\', \'ip address\')'),
	key('it has an address, so the fault lies further on: the line or the provider is down, or a firewall stops port %s'),
	key('a captive portal is in the way: the network answers in the server\'s place'),
	key('open any page over this WAN alone and log in; wanbond uses the WAN once it lets traffic through'),
	key('open %s over this WAN alone and log in; wanbond uses the WAN once it lets traffic through'),
	key('it has gone away %s times in short order'),
	key('look at its cable, its reception, or the modem\'s log; role backup keeps it out of the way meanwhile'),
	key('UDP to the server\'s port %s is blocked on its way: the tunnel goes over TCP here, where a lost packet holds up those behind it'),
	key('ask the provider, or move the server to another port, such as 443'),
	key('something on its way removes MPTCP from connections to port %s'),
	key('nothing has to be done: TCP goes through the tunnel instead; another port of the server may pass'),
	key('%s %% of its packets are lost'),
	key('look at its reception or cable; in use, a too short queue loses packets as well'),
	key('packets wait %s in its queue'),
	key('something fills it: look for uploads that do not go through wanbond, or limit the modem\'s queue (SQM)'),
	key('it answers after %s, the best WAN after %s'),
	key('single connections gain little from it; role overflow uses it when the others are full'),
	key('only datagrams of up to %s bytes pass'),
	key('packets are split to fit; a wrong MTU on the modem or a tunnel on the way is the usual cause'),
	key('its quota of %s is used up: it helps in an emergency only'),
	key('it begins anew on day %s of the month; a larger one is set by option quota'),
	key('%s %% of its %s are used'),
	key('no WAN is configured'),
	key('add a wan section for each link'),
	key('there is one WAN only: nothing to bond'),
	key('%s alone carries everything at the moment'),
	key('TCP goes through the tunnel: %s'),
	key('the most seen in the last ten minutes: %s down over all WANs'),
	key('its processor is %s %% busy: it holds traffic up'),
	key('see what runs (\'top\'); a faster router, or one with AES instructions, bonds more'),
	key('see what runs there (\'top\'); a VPS with more or faster processors serves more'),
	key('names can\'t be looked up: the name server that the router asks does not answer'),
	key('look at /etc/resolv.conf and whether dnsmasq runs; \'option dns\' says whether questions go through the bond'),
	key('a single download is held up by the router\'s receive window of %s'),
	key('raise the last figure of net.ipv4.tcp_rmem on the router, if it has the memory'),
	key('its clock is not set'),
	key('wanbond does not need it, but quotas\' months and certificates do: let NTP run'),
	key('uploads wait for the server\'s receive window'),
	key('raise net.ipv4.tcp_rmem on the server, if it has the memory'),
	key('this kernel has no MPTCP, or net.mptcp.enabled is 0'),
	key('OpenWrt 24.10 and newer have it on all but small-flash targets; TCP goes through the tunnel meanwhile'),
	key('lanes use %s congestion control'),
	key('install kmod-tcp-bbr: lines that lose packets are used far better with BBR'),

	/* Tasks: a pairing code that is checked. */
	key('looking the server up'),
	key('%s of %s WANs tried'),
	key('the name %s can\'t be looked up: %s; look whether DNS works on the router'),
	key('the name servers do not answer'),
	key('no network of this router leads to the Internet; connect one first (it needs a default route)'),
	key('no answer from %s: look whether the server runs there (\'wanbond-server status\'), whether its firewall and its provider let the port through, TCP and UDP, and whether the code is the latest'),
	key('it has no %s address, and the server has nothing else'),
	key('something on its way removes MPTCP from connections to port %s: TCP will go through the tunnel'),
	key('it answers after %s: single connections gain little from it'),
	key('TCP to port %s does not get through, only UDP: connections will go through the tunnel'),
	key('UDP to port %s does not get through, only TCP: ask the provider, or give the server another port, such as 443'),
	key('something answers at %s, but not with this code\'s key: the server was set up anew, another program has its port, or a captive portal stands between'),
	key('no answer from %s over it: the line is down further on, a captive portal wants a login, or a firewall stops the port'),

	/* Tasks: speed tests and drills. */
	key('%s is running (task %s, %s %% done); wait for its end, or cancel it'),
	key('it was cancelled'),
	key('it failed by a fault in wanbond; see the log'),
	key('it is switched off'),
	key('it is metered and only stands by; name it to have it measured'),
	key('WAN %s is not up, so there is nothing to be cut'),
	key('WAN %s is the only one that is up: cutting it would cut everything'),
	key('there is no connection to the server; \'wanbond diagnose\' says why'),
	key('it has no address that the server can be reached from'),
	key('no connection to the server over it'),
	key('no connection to the server over it: %s'),
	key('no stream: %s'),
	key('there is no session with the server'),
	key('the server has ended the connection (%s); is wanbond-server older than this router?'),
	key('the server does not answer'),
	key('too many tests of this router at once'),
	key('the server refuses'),
	key('there is no WAN'),
	key('it has gone'),
	key('nothing came through'),
	key('opening connections to measure by'),
	key('measuring what is usual'),
	key('it can\'t be cut: %s'),
	key('cut, and noticed'),
	key('cut, not noticed yet'),
	key('the cut can\'t be taken back now: %s'),
	key('back, waiting until it is used again'),
	key('%s was cut for %s, which was noticed after %s.'),
	key('%s was cut for %s, which was not noticed in that time.'),
	key('No connection was without data for longer than %s (%s); none was lost.'),
	key('No connection was without data for longer than %s (%s); %s of %s broke.'),
	key('a download'),
	key('questions through the tunnel'),
	key('questions over a lane'),
	key('It was up %s after its return, and carried its share after %s.'),
	key('It was up %s after its return.'),
	key('It has not come back up since; see its state.'),
	key('Nothing had to be done at its return.')
];

/* Words that stand in places: states as the daemon writes them. */
function word(text) {
	const wan = words.wanState({ state: text }), server = words.serverState(text), role = words.role(text);

	return [ wan.text, server.text, role ].find(known => known != text) ?? text;
}

/* A sentence's pattern; its own characters stand for themselves. No place reaches over a sentence's end. */
function pattern(sentence) {
	const parts = sentence.split('%s').map(part => part.replace(/%%/g, '%').replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));

	return new RegExp(`^${parts.join('((?:(?!\\. ).)+?)')}$`);
}

/* Those with the most words of their own first: the more general ones fit what they fit as well. */
const PATTERNS = SENTENCES.slice()
	.sort((a, b) => b.replace(/%s/g, '').length - a.replace(/%s/g, '').length)
	.map(sentence => ({ sentence, pattern: pattern(sentence) }));

/* Documents repeat themselves every two seconds. */
const MOST_KNOWN = 400;
const known = new Map();

function find(text) {
	for (const { sentence, pattern: fits } of PATTERNS) {
		const places = fits.exec(text);

		if (places)
			return _(sentence).format(...places.slice(1).map(place => say(word(place))));
	}

	const parts = text.split(/(?<=\.) /);

	return parts.length > 1 ? parts.map(say).join(' ') : text;
}

function say(text) {
	if (!known.has(text)) {
		if (known.size >= MOST_KNOWN)
			known.clear();

		known.set(text, find(text));
	}

	return known.get(text);
}

/* In which fields of documents there are sentences. */
const FIELDS = new Set([ 'advice', 'domains_by', 'error', 'message', 'now', 'step', 'streams_why', 'what', 'why' ]);

function translate(value, name) {
	if (typeof(value) == 'string')
		return FIELDS.has(name) && value ? say(value) : value;

	if (Array.isArray(value))
		return typeof(value[0]) == 'object' ? value.map(item => translate(item, name)) : value;

	if (!L.isObject(value))
		return value;

	return Object.fromEntries(Object.entries(value).map(([ field, inner ]) => [ field, translate(inner, field) ]));
}

return baseclass.extend({
	/* All that are known, in English. */
	SENTENCES,

	/* One sentence, or several in a row. */
	say,

	/* A whole document of the daemon. */
	document(value) {
		return translate(value, '');
	}
});
