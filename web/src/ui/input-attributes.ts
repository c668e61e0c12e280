import type { HTMLInputAttributes } from 'svelte/elements';

/** What a field may say about what belongs into it. */
export type InputAttributes = Pick<
  HTMLInputAttributes,
  'name' | 'autocomplete' | 'autocapitalize' | 'spellcheck' | 'maxlength' | 'required'
>;
