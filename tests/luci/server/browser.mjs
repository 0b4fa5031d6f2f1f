// Chromium, with a profile of its own that goes when it is closed.

import { chromium } from 'playwright-core';

export const launch = () => chromium.launch({
	executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
	args: [
		'--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
		'--disable-component-update', '--disable-sync', '--js-flags=--expose-gc',
	],
});
