import js from '@eslint/js';
import globals from 'globals';

export default [
  js.configs.recommended,
  {
    languageOptions: { sourceType: 'script', globals: globals.browser },
    rules: {
      'eqeqeq': 'error',
      'no-redeclare': ['error', { builtinGlobals: false }],
      'no-var': 'error',
      'prefer-const': 'error',
      'strict': ['error', 'global'],
    },
  },
];
