/** The page's language: chosen, remembered, and every word in it. */
import { LocalizedStringDictionary, LocalizedStringFormatter, type LocalizedString } from '@internationalized/string';
import { en } from './en.js';
import type { Locale } from './format.js';
import type { MessageKey, MessageValues } from './messages.js';
import { zh } from './zh.js';

// The library's own type of values is looser than ours; `t` below gives each message exactly what it takes.
const dictionary = new LocalizedStringDictionary<MessageKey, LocalizedString>(
  { en, 'zh-CN': zh } as unknown as Record<Locale, Record<MessageKey, LocalizedString>>,
  'en',
);

class I18n {
  #locale = $state<Locale>('en');
  readonly #formatter = $derived(new LocalizedStringFormatter<MessageKey, LocalizedString>(this.#locale, dictionary));

  get locale(): Locale {
    return this.#locale;
  }

  set locale(locale: Locale) {
    this.#locale = locale;
    document.documentElement.lang = locale;
  }

  /** A message in the language of the page; reading it in a component follows a change of language. */
  readonly t = <K extends MessageKey>(key: K, ...[values]: MessageValues<K>): string =>
    this.#formatter.format(key, values as Record<string, string | number | boolean> | undefined);
}

/** The one language of the page. */
export const i18n = new I18n();

/** A message in the language of the page. */
export const t = i18n.t;
