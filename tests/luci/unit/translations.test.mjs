import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

test('every word of the pages is in the template and translated, with its values in their places', () => {
	const script = fileURLToPath(new URL('../../../luci-app/translate.py', import.meta.url));
	try {
		execFileSync('python3', [script, '--check'], { encoding: 'utf8' });
	} catch (error) {
		assert.fail(error.stdout || String(error));
	}
});
