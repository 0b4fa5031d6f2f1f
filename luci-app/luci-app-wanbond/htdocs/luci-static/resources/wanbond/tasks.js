'use strict';
'require baseclass';
'require ui';
'require wanbond.api as api';
'require wanbond.nodes as nodes';
'require wanbond.palette as palette';

/*
 * What takes a while: the daemon runs one task at a time and is asked how far it is.
 */

const INTERVAL_MS = 500;

/* How often in a row the daemon may be silent before a task is given up: a drill cuts links, after all. */
const PATIENCE = 20;

function pause(ms) {
	return new Promise(resolve => window.setTimeout(resolve, ms));
}

/* A bar with the step in words below it. */
function meter() {
	const bar = E('div');
	const frame = E('div', { 'class': 'wb-meter', 'role': 'progressbar', 'aria-valuemin': 0, 'aria-valuemax': 100 }, [ bar ]);
	const step = E('p', { 'class': 'wb-step', 'aria-live': 'polite' });

	return {
		node: E('div', {}, [ frame, step ]),
		update(task) {
			const percent = Math.round(Math.min(Math.max(task.progress || 0, 0), 1) * 100);

			nodes.attr(frame, 'aria-valuenow', percent);
			bar.style.width = '%d%%'.format(percent);
			nodes.text(step, task.step || _('Starting …'));
		}
	};
}

return baseclass.extend({
	meter,

	/*
	 * Starts a task by `start()` and follows it. `told(task)` hears of every step; `wanted()` says whether anybody
	 * still waits, else the task is cancelled. Resolves with the task's result, rejects with what went wrong.
	 */
	run(start, told, wanted) {
		let silent = 0;
		const isWanted = () => wanted == null || wanted();

		const follow = task => {
			if (task.state == 'done')
				return task.result ?? {};

			if (task.state == 'failed')
				throw new api.Failure('refused', task.error || _('It was ended.'));

			told?.(task);

			if (!isWanted())
				return api.task(task.id, true).then(() => null, () => null);

			return pause(INTERVAL_MS)
				.then(() => api.task(task.id))
				.then(next => { silent = 0; return next; }, error => {
					if (error.kind != 'network' || ++silent > PATIENCE)
						throw error;

					return task;
				})
				.then(follow);
		};

		return Promise.resolve(start()).then(follow);
	},

	/*
	 * A window that explains a task, runs it once it is confirmed, and shows what came out. `what`: title,
	 * explain (paragraphs), go (the button's text), start(), show(result) → nodes.
	 */
	dialog(what) {
		const body = E('div', { 'class': 'wb wb-dialog' }, what.explain.map(text => E('p', {}, [ text ])));
		const go = E('button', { 'class': 'btn cbi-button cbi-button-action important', 'type': 'button' }, [ what.go ]);
		const close = E('button', { 'class': 'btn cbi-button', 'type': 'button' }, [ _('Cancel') ]);
		let open = true;

		const show = (...children) => body.replaceChildren(...children);

		close.addEventListener('click', () => {
			open = false;
			ui.hideModal();
		});

		go.addEventListener('click', () => {
			const progress = meter();

			/* Keys go on working where the button was. */
			close.focus();
			go.remove();
			show(progress.node);
			progress.update({});

			this.run(what.start, task => progress.update(task), () => open).then(result => {
				if (result != null)
					show(...what.show(result));
			}, error => {
				show(E('p', { 'class': 'alert-message error', 'role': 'alert' }, [ error.message ]));
			}).then(() => {
				nodes.text(close, _('Close'));
				close.focus();
			});
		});

		palette.dress(body);
		ui.showModal(what.title, [ body, E('div', { 'class': 'right' }, [ close, ' ', go ]) ]);
		go.focus();
	}
});
