// The rules for the app's views, for the runtime that they are tested in, and for the tests.

import js from '@eslint/js';
import globals from 'globals';

/** E()'s third argument becomes HTML where it is no array. */
const HTML = {
	selector: 'CallExpression[callee.name="E"][arguments.length=3] > .arguments:nth-child(3):not(ArrayExpression, CallExpression, Identifier, MemberExpression, ConditionalExpression, LogicalExpression, AwaitExpression)',
	message: 'Hand children over in an array: LuCI takes anything else for HTML.',
};
const INNER = { selector: 'MemberExpression[property.name=/^(innerHTML|outerHTML|insertAdjacentHTML)$/]', message: 'Text is set by nodes, not by HTML.' };

const rules = {
	eqeqeq: 'off',
	'no-console': 'off',
	'no-eval': 'error',
	'no-implied-eval': 'error',
	'no-shadow-restricted-names': 'error',
	'no-unused-vars': [ 'error', { argsIgnorePattern: '^_' } ],
	'no-var': 'error',
	'object-shorthand': [ 'error', 'always', { avoidQuotes: true } ],
	'prefer-const': [ 'error', { destructuring: 'all' } ],
	indent: 'off',
	'no-trailing-spaces': 'error',
	quotes: [ 'error', 'single', { avoidEscape: true, allowTemplateLiterals: true } ],
	semi: 'error',
};

const luci = { L: 'readonly', E: 'readonly', _: 'readonly', N_: 'readonly' };

export default [
	{ ignores: [ '**/node_modules/**' ] },
	js.configs.recommended,
	{ rules, linterOptions: { reportUnusedDisableDirectives: 'error' } },
	{
		// LuCI wraps a view into a function, and gives it what it requires by name.
		files: [ '**/luci-app/**/htdocs/**/*.js' ],
		languageOptions: { sourceType: 'commonjs', ecmaVersion: 2022, parserOptions: { ecmaFeatures: { globalReturn: true } }, globals: { ...globals.browser, ...luci } },
		rules: {
			'no-restricted-syntax': [ 'error', HTML, INNER ],
			'no-redeclare': 'off',
		},
		processor: {
			meta: { name: 'luci', version: '1' },
			/** Declares what the file's `require` directives bring. */
			preprocess: (text) => [ text + declared(text) ],
			postprocess: (lists) => lists.flat(),
		},
	},
	{
		files: [ '**/tests/luci/runtime/**/*.js' ],
		languageOptions: { globals: { ...globals.browser, ...luci } },
	},
	{
		files: [ '**/tests/luci/**/*.mjs' ],
		languageOptions: { globals: { ...globals.node, ...globals.browser, ...luci } },
	},
];

function declared(text) {
	const names = [ ...text.matchAll(/^'require ([\w.]+)(?: as (\w+))?';/gm) ].map(([ , module, as ]) => as ?? module.replaceAll('.', '_'));
	return names.length ? `\n/* global ${names.join(', ')} */\n` : '';
}
