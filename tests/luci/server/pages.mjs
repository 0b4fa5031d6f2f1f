// The pages around the views: login, menu, and what tells the runtime which view to show.

const escaped = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const head = (title) => `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/runtime/theme.css">
</head>`;

export const loginPage = (wrong) => `${head('router: log in')}
<body class="login">
<form method="post" class="cbi-map">
<h2>Authorization Required</h2>
${wrong ? '<div class="alert-message error">Invalid username and/or password! Please try again.</div>' : ''}
<label>Username <input name="luci_username" value="root"></label>
<label>Password <input name="luci_password" type="password" autofocus></label>
<button class="btn cbi-button cbi-button-positive">Log in</button>
</form>
</body></html>`;

/** What a session may do with a menu entry: undefined for what it does not see, else { readonly }. */
function permission(entry, session, sessions) {
	const groups = entry.depends?.acl ?? [];
	const holds = (kind) => groups.some((group) => sessions.allows(session, 'access-group', group, kind));
	if (!groups.length)
		return { readonly: false };
	return holds('read') || holds('write') ? { readonly: !holds('write') } : undefined;
}

/** The page of a menu path: { code, content }, or { location } of its first child. */
export function viewPage(menu, wanted, session, sessions, languages) {
	const seen = Object.entries(menu)
		.map(([ at, entry ]) => ({ at, ...entry, permission: permission(entry, session, sessions) }))
		.filter((entry) => entry.permission)
		.sort((a, b) => (a.order ?? 1000) - (b.order ?? 1000));
	const views = seen.filter((entry) => entry.action?.type == 'view');
	const entry = seen.find(({ at }) => at == wanted);
	if (entry?.action?.type != 'view') {
		const child = views.find(({ at }) => at.startsWith(entry ? wanted + '/' : 'admin/'));
		if (child && wanted.length <= child.at.length && (entry || !wanted || wanted == 'admin'))
			return { location: `/cgi-bin/luci/${child.at}` };
		return { code: entry ? 403 : 404, content: `${head('router')}<body><h2>No page registered at '/${escaped(wanted)}'</h2></body></html>` };
	}
	const language = languages.slice(0, 2).toLowerCase();
	const env = {
		sessionid: session, token: sessions.call('get', { ubus_rpc_session: session })[1].values.token,
		scriptname: '/cgi-bin/luci', resource: '/luci-static/resources', media: '/luci-static/bootstrap', ubuspath: '/ubus/',
		requestpath: wanted.split('/'), dispatchpath: wanted.split('/'), pathinfo: '/' + wanted, documentroot: '/www',
		pollinterval: 5, apply_rollback: 20, apply_holdoff: 1, apply_timeout: 5, apply_display: 1.5, rpctimeout: 20,
		nodespec: { ...entry, readonly: entry.permission.readonly }, language,
	};
	const tabs = views.map(({ at, title }) =>
		`<li${at == wanted ? ' class="active"' : ''}><a href="/cgi-bin/luci/${at}">${escaped(title)}</a></li>`).join('\n');
	return {
		code: 200,
		content: `${head(entry.title)}
<body class="lang_${escaped(language)}" data-page="${escaped(wanted.replaceAll('/', '-'))}">
<header><a class="brand" href="/">router</a> <a href="/cgi-bin/luci/admin/logout">Log out</a></header>
<div id="maincontent" class="container">
<div id="tabmenu"><ul class="tabs">${tabs}</ul></div>
<div id="view"><div class="spinning">Loading view…</div></div>
</div>
<script type="application/json" id="env">${JSON.stringify(env).replaceAll('<', '\\u003c')}</script>
<script type="module" src="/runtime/start.js"></script>
</body></html>`,
	};
}
