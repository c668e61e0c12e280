/** The viewer's wishes, applied to the page, kept in the browser, and followed in its other tabs. */
import { i18n } from '../i18n/i18n.svelte.js';
import { languageFor, PREFERENCES_KEY, readPreferences, type Preferences } from './preferences.js';

class PreferencesState {
  #wishes = $state.raw<Preferences>(readPreferences(null));
  #systemIsDark = $state(false);

  get wishes(): Preferences {
    return this.#wishes;
  }

  get isDark(): boolean {
    return this.#wishes.theme === 'dark' || (this.#wishes.theme === 'system' && this.#systemIsDark);
  }

  /** Reads what is kept and follows the system and the other tabs from now on. */
  start(): void {
    const dark = matchMedia('(prefers-color-scheme: dark)');
    this.#systemIsDark = dark.matches;
    dark.addEventListener('change', (event) => {
      this.#systemIsDark = event.matches;
      this.#show();
    });
    addEventListener('storage', (event) => {
      if (event.key === PREFERENCES_KEY) this.#read();
    });
    this.#read();
  }

  /** Changes some wishes. */
  wish(changes: Partial<Preferences>): void {
    this.#wishes = { ...this.#wishes, ...changes };
    try {
      localStorage.setItem(PREFERENCES_KEY, JSON.stringify(this.#wishes));
    } catch {
      // Storage is switched off or full: the wish holds for this page alone.
    }
    this.#show();
  }

  #read(): void {
    let kept: string | null = null;
    try {
      kept = localStorage.getItem(PREFERENCES_KEY);
    } catch {
      // Storage is switched off: everything is as by default.
    }
    this.#wishes = readPreferences(kept);
    this.#show();
  }

  #show(): void {
    const root = document.documentElement;
    root.dataset['theme'] = this.isDark ? 'dark' : 'light';
    root.dataset['density'] = this.#wishes.density;
    i18n.locale = this.#wishes.language || languageFor(navigator.languages);
  }
}

/** The viewer's wishes. */
export const preferences = new PreferencesState();
