// The lab behind the tests: starts it, tells it what to do, ends it.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const repository = fileURLToPath(new URL('../../..', import.meta.url));

function program() {
	const target = process.env.CARGO_TARGET_DIR ?? path.join(repository, 'target');
	const found = path.join(process.env.WANBOND_BIN_DIR ?? path.join(target, 'lab'), 'wanbond-luci-lab');
	if (!existsSync(found))
		throw new Error(`${found} is missing: cargo build --profile lab -p wanbond -p wanbond-server -p wanbond-luci-lab`);
	return found;
}

export class Lab {
	#child;
	#next = 1;
	#waiting = new Map();

	/** Where things are: ubus (socket), config, log, networks. */
	where;

	static async start() {
		const lab = new Lab();
		const binary = program();
		lab.#child = spawn(binary, { stdio: [ 'pipe', 'pipe', 'inherit' ], env: { WANBOND_BIN_DIR: path.dirname(binary), ...process.env } });
		await new Promise((resolve, reject) => {
			lab.#child.once('exit', (code) => {
				const gone = new Error(`the lab ended with ${code}`);
				reject(gone);
				for (const request of lab.#waiting.values())
					request.reject(gone);
			});
			createInterface(lab.#child.stdout).on('line', (line) => {
				const answer = JSON.parse(line);
				if (answer.ready) {
					lab.where = answer.ready;
					resolve();
					return;
				}
				const request = lab.#waiting.get(answer.id);
				lab.#waiting.delete(answer.id);
				if (answer.error !== undefined)
					request?.reject(new Error(answer.error));
				else
					request?.resolve(answer.ok);
			});
		});
		return lab;
	}

	/** Carries out one of the commands of lab/src/main.rs. */
	do(what, args = {}) {
		const id = this.#next++;
		return new Promise((resolve, reject) => {
			this.#waiting.set(id, { resolve, reject });
			this.#child.stdin.write(JSON.stringify({ id, do: what, ...args }) + '\n');
		});
	}

	async end() {
		const ended = new Promise((resolve) => this.#child.once('exit', resolve));
		this.#child.stdin.end();
		await ended;
	}
}
