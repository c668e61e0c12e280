/** What a message is. The English catalogue says which messages exist and what they take; every other one must match. */
import type { en } from './en.js';

/**
 * Gives messages plural forms and numbers of their language: what the formatter of @internationalized/string offers to
 * the functions that it calls.
 */
export interface Words {
  plural(
    count: number,
    forms: Readonly<Record<string, string | (() => string)> & { other: string | (() => string) }>,
  ): string;
  number(count: number): string;
}

/** A text, or a text made of values. */
export type Message = string | ((values: never, words: Words) => string);

type Like<M> = M extends (values: infer V, words: Words) => string ? (values: V, words: Words) => string : string;

/** A whole catalogue. */
export type Messages = { readonly [K in keyof typeof en]: Like<(typeof en)[K]> };

/** The name of a message. */
export type MessageKey = keyof typeof en;

/** What a message takes: nothing, or one object of values. */
export type MessageValues<K extends MessageKey> = (typeof en)[K] extends (values: infer V, words: Words) => string
  ? [values: V]
  : [];
