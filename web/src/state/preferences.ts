/** What a browser remembers of its viewer's wishes; nothing of it ever leaves the browser. */

/** The wishes. */
export interface Preferences {
  readonly theme: 'system' | 'light' | 'dark';
  /** Empty: as the browser says. */
  readonly language: '' | 'en' | 'zh-CN';
  readonly density: 'compact' | 'relaxed';
  /** Whether single keys are shortcuts. */
  readonly shortcuts: boolean;
}

export const DEFAULT_PREFERENCES: Preferences = { theme: 'system', language: '', density: 'compact', shortcuts: true };

/** Where they are kept; public/boot.js reads theme and language from here before the first paint. */
export const PREFERENCES_KEY = 'taskdash.preferences';

/** Reads what was kept; whatever is missing or makes no sense is as by default. */
export function readPreferences(kept: string | null): Preferences {
  const found = parseObject(kept);
  return {
    theme: oneOf(found['theme'], ['system', 'light', 'dark']) ?? DEFAULT_PREFERENCES.theme,
    language: oneOf(found['language'], ['', 'en', 'zh-CN']) ?? DEFAULT_PREFERENCES.language,
    density: oneOf(found['density'], ['compact', 'relaxed']) ?? DEFAULT_PREFERENCES.density,
    shortcuts: typeof found['shortcuts'] === 'boolean' ? found['shortcuts'] : DEFAULT_PREFERENCES.shortcuts,
  };
}

/** The language for somebody whose browser asks for these, in the order of their wishes. */
export function languageFor(wished: readonly string[]): 'en' | 'zh-CN' {
  const first = wished.find((language) => /^(zh|en)\b/i.test(language));
  return first !== undefined && /^zh\b/i.test(first) ? 'zh-CN' : 'en';
}

function parseObject(text: string | null): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(text ?? '{}');
    return typeof parsed === 'object' && parsed !== null ? (parsed as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function oneOf<T extends string>(value: unknown, allowed: readonly T[]): T | undefined {
  return allowed.find((candidate) => candidate === value);
}
