/** Where the page is, and going elsewhere: a façade over the browser's history. */
import { parseRoute, type Route } from './location.js';

/** What a history entry carries beside its address: the tokens of the pages before this one, oldest first. */
export interface EntryState {
  readonly trail: readonly string[];
}

class Navigation {
  #route = $state.raw<Route>(parseRoute(location.pathname, location.search));
  #entry = $state.raw<EntryState | undefined>(readEntry(history.state));

  get route(): Route {
    return this.#route;
  }

  /** What was stored with the current entry; undefined for an address that was typed or shared. */
  get entry(): EntryState | undefined {
    return this.#entry;
  }

  /** The current address, to come back to. */
  get href(): string {
    return location.pathname + location.search;
  }

  /** Follows the browser's buttons, and links to our own pages, from now on. */
  start(): void {
    addEventListener('popstate', () => this.#read());
    document.addEventListener('click', (event) => this.#follow(event));
  }

  /** Goes to an address; `replace` forgets the current one. */
  go(href: string, options: { replace?: boolean; entry?: EntryState } = {}): void {
    const entry = options.entry ?? null;
    if (options.replace) history.replaceState(entry, '', href);
    else history.pushState(entry, '', href);
    this.#read();
  }

  #read(): void {
    this.#entry = readEntry(history.state);
    this.#route = parseRoute(location.pathname, location.search);
  }

  /** Plain clicks on plain links only: new tabs, downloads and other sites are the browser's business. */
  #follow(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest('a') : null;
    if (!link?.hasAttribute('href') || link.target !== '' || link.hasAttribute('download')) return;
    const url = new URL(link.href);
    if (url.origin !== location.origin || (url.hash !== '' && url.pathname === location.pathname)) return;
    event.preventDefault();
    this.go(url.pathname + url.search);
  }
}

function readEntry(state: unknown): EntryState | undefined {
  if (typeof state !== 'object' || state === null || !('trail' in state) || !Array.isArray(state.trail))
    return undefined;
  return { trail: state.trail.filter((token): token is string => typeof token === 'string') };
}

/** The one place in the history. */
export const navigation = new Navigation();
