/**
 * What the address bar says, and the only place that writes addresses.
 *
 *   /tasks?q=status:running group:mx&sort=-updated&size=100&page=<token>     the list
 *   /tasks/<id>                                                              one task
 *   /connections?show=held&page=<token>                                      the live connections of services
 *   /login?next=<address>   /password?next=<address>                         the way in
 */
import { DEFAULT_ORDER, ORDER_FIELDS, type OrderField, type TaskOrder } from './task-order.js';
import { EMPTY_QUERY, formatQuery } from './task-query.js';

/** The page sizes on offer. */
export const PAGE_SIZES = [25, 50, 100, 200] as const;
export const DEFAULT_PAGE_SIZE = 50;

/** A view of the task list, as a link shares it. */
export interface ListView {
  /** The text of the search box. */
  readonly text: string;
  readonly order: TaskOrder;
  readonly pageSize: number;
  /** The server's token for this page; empty for the first one. */
  readonly pageToken: string;
}

/** The list without any wish. */
export const PLAIN_VIEW: ListView = { text: '', order: DEFAULT_ORDER, pageSize: DEFAULT_PAGE_SIZE, pageToken: '' };

/** A view of the connections, as a link shares it. */
export interface ConnectionsView {
  /** Only those that are held because of mass silence; they stand on one page. */
  readonly heldOnly: boolean;
  /** The server's token for this page; empty for the first one. */
  readonly pageToken: string;
}

/** Where one is. */
export type Route =
  | { readonly page: 'tasks'; readonly view: ListView }
  | { readonly page: 'task'; readonly id: string }
  | { readonly page: 'connections'; readonly view: ConnectionsView }
  | { readonly page: 'login' | 'password'; readonly next: string }
  | { readonly page: 'unknown'; readonly path: string };

/** Reads an address. */
export function parseRoute(path: string, search: string): Route {
  const parameters = new URLSearchParams(search);
  if (path === '/' || path === '/tasks') return { page: 'tasks', view: parseView(parameters) };
  if (path === '/connections') return { page: 'connections', view: parseConnections(parameters) };
  if (path === '/login' || path === '/password') {
    return { page: path === '/login' ? 'login' : 'password', next: safeNext(parameters.get('next')) };
  }
  const id = idOf(path, parameters);
  return id === undefined || id === '' ? { page: 'unknown', path } : { page: 'task', id };
}

function idOf(path: string, parameters: URLSearchParams): string | undefined {
  const match = /^\/tasks\/([^/]*)$/.exec(path);
  if (!match) return undefined;
  if (match[1] === '') return parameters.get('id') ?? undefined;
  try {
    return decodeURIComponent(match[1] ?? '');
  } catch {
    return undefined;
  }
}

function parseView(parameters: URLSearchParams): ListView {
  const size = Number(parameters.get('size'));
  return {
    text: (parameters.get('q') ?? '').trim(),
    order: parseOrder(parameters.get('sort') ?? ''),
    pageSize: PAGE_SIZES.find((offered) => offered === size) ?? DEFAULT_PAGE_SIZE,
    pageToken: parameters.get('page') ?? '',
  };
}

function parseConnections(parameters: URLSearchParams): ConnectionsView {
  const heldOnly = parameters.get('show') === 'held';
  return { heldOnly, pageToken: heldOnly ? '' : (parameters.get('page') ?? '') };
}

function parseOrder(text: string): TaskOrder {
  const name = text.replace(/^-/, '');
  const field = ORDER_FIELDS.find((known) => known === name);
  return field === undefined ? DEFAULT_ORDER : { field, ascending: !text.startsWith('-') };
}

/** The address of a list view. */
export function tasksHref(view: ListView = PLAIN_VIEW): string {
  const parameters = new URLSearchParams();
  if (view.text !== '') parameters.set('q', view.text);
  if (!isSameOrder(view.order, DEFAULT_ORDER)) parameters.set('sort', formatOrder(view.order));
  if (view.pageSize !== DEFAULT_PAGE_SIZE) parameters.set('size', String(view.pageSize));
  if (view.pageToken !== '') parameters.set('page', view.pageToken);
  // Colons are legal in a query, and an address that people share should be readable.
  const search = parameters.toString().replaceAll('%3A', ':');
  return search === '' ? '/tasks' : `/tasks?${search}`;
}

/** The address of a task. "." and ".." would be resolved away as path segments. */
export function taskHref(id: string): string {
  return id === '.' || id === '..' ? `/tasks/?id=${id}` : `/tasks/${encodeURIComponent(id)}`;
}

/** The address of a view of the connections. */
export function connectionsHref(view: Partial<ConnectionsView> = {}): string {
  if (view.heldOnly) return '/connections?show=held';
  return view.pageToken ? `/connections?${new URLSearchParams({ page: view.pageToken }).toString()}` : '/connections';
}

/** The address of the list of the tasks that were reported from an address. */
export function tasksOfAddressHref(address: string): string {
  return tasksHref({ ...PLAIN_VIEW, text: formatQuery({ ...EMPTY_QUERY, addrPrefix: address }) });
}

/** The address of the login, which leads on to `next`. */
export function loginHref(next: string): string {
  return withNext('/login', next);
}

/** The address of the change of password, which leads on to `next`. */
export function passwordHref(next: string): string {
  return withNext('/password', next);
}

function withNext(path: string, next: string): string {
  const safe = safeNext(next);
  return safe === '/tasks' ? path : `${path}?${new URLSearchParams({ next: safe }).toString()}`;
}

/** What the way in does not lead on to. */
const THE_WAY_IN = ['/', '/login', '/password'];

/** Only our own pages are ever led on to: never another site, never the way in itself. */
function safeNext(next: string | null): string {
  const here = 'http://here.invalid';
  if (next === null || !next.startsWith('/') || !URL.canParse(next, here)) return '/tasks';
  const url = new URL(next, here);
  // The path is judged as a browser will read it: "/..//evil.invalid" becomes "//evil.invalid", which is another site.
  const address = url.pathname + url.search + url.hash;
  const staysHere = url.origin === here && URL.canParse(address, here) && new URL(address, here).origin === here;
  return staysHere && !THE_WAY_IN.includes(url.pathname) ? address : '/tasks';
}

function formatOrder(order: TaskOrder): string {
  return `${order.ascending ? '' : '-'}${order.field satisfies OrderField}`;
}

function isSameOrder(a: TaskOrder, b: TaskOrder): boolean {
  return a.field === b.field && a.ascending === b.ascending;
}

/** Whether two views list the same tasks in the same order, page by page. */
export function isSameView(a: ListView, b: ListView): boolean {
  return tasksHref(a) === tasksHref(b);
}
