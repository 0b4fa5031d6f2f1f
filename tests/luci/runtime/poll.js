// What views do again and again.

export class Poll {
	#tasks = [];
	#timer = null;
	#tick = 0;

	/** Calls `task` at once and every so many seconds, never twice at a time. */
	add(task, seconds) {
		if (typeof task != 'function')
			throw new TypeError('Invalid argument to poll.add()');
		if (this.#tasks.some((known) => known.task == task))
			return false;
		this.#tasks.push({ task, every: seconds ?? 5, running: false });
		if (this.#timer !== null)
			this.step();
		else if (this.#tasks.length == 1)
			this.start();
		return true;
	}

	remove(task) {
		const before = this.#tasks.length;
		this.#tasks = this.#tasks.filter((known) => known.task != task);
		if (before && !this.#tasks.length)
			this.stop();
		return before != this.#tasks.length;
	}

	start() {
		if (this.active())
			return false;
		this.#tick = 0;
		this.#timer = setInterval(() => this.step(), 1000);
		this.step();
		document.dispatchEvent(new CustomEvent('poll-start'));
		return true;
	}

	stop() {
		if (!this.active())
			return false;
		clearInterval(this.#timer);
		this.#timer = null;
		document.dispatchEvent(new CustomEvent('poll-stop'));
		return true;
	}

	active() {
		return this.#timer !== null;
	}

	/** What a second brings: calls the tasks that are due. Resolves once they are done. */
	step() {
		const due = this.#tasks.filter((known) => this.#tick % known.every == 0 && !known.running);
		this.#tick++;
		return Promise.all(due.map(async (known) => {
			known.running = true;
			try {
				await known.task();
			}
			catch (error) {
				console.error('poll:', error);
			}
			known.running = false;
		}));
	}
}
