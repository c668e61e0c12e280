/**
 * The search box: one text with qualifiers, and what it asks for.
 *
 *   status:running group:mx user:"Li Na" id:13 name:imp addr:10.0. nightly import
 *
 * `status:`, `group:` and `user:` may stand several times and widen each other; `id:`, `name:` and `addr:` are
 * beginnings and stand once, the last one counts. Everything else is free text, whose words must all occur. A text in
 * quotation marks is taken as it is. The full-width colon of Chinese keyboards counts as a colon.
 */

/** What a search asks for. Empty lists and texts ask for nothing. */
export interface TaskQuery {
  readonly statuses: readonly string[];
  readonly groups: readonly string[];
  readonly users: readonly string[];
  readonly idPrefix: string;
  readonly namePrefix: string;
  readonly addrPrefix: string;
  readonly words: readonly string[];
}

/** A query that every task matches. */
export const EMPTY_QUERY: TaskQuery = {
  statuses: [],
  groups: [],
  users: [],
  idPrefix: '',
  namePrefix: '',
  addrPrefix: '',
  words: [],
};

/** The qualifiers, in the order in which they are written. */
export const QUALIFIERS = ['status', 'group', 'user', 'id', 'name', 'addr'] as const;
export type Qualifier = (typeof QUALIFIERS)[number];

/** One condition of a query: what a chip above the table shows and takes away. */
export interface Condition {
  readonly qualifier: Qualifier | 'text';
  readonly value: string;
}

/** A qualifier that still lacks its value; or a value in quotation marks or bare, with or without a qualifier. */
const TERM =
  /(?:status|group|user|id|name|addr)[:：](?=\s|$)|(?:(status|group|user|id|name|addr)[:：])?(?:"((?:[^"\\]|\\.)*)"?|([^\s"]+))/giu;

/** Reads the text of the search box. Every text is a query: what is half written asks for nothing yet. */
export function parseQuery(text: string): TaskQuery {
  return queryOf([...text.matchAll(TERM)].flatMap(conditionOf));
}

function conditionOf(match: RegExpMatchArray): Condition[] {
  const [, name, quoted, bare] = match;
  const qualifier = name === undefined ? 'text' : (name.toLowerCase() as Qualifier);
  if (quoted !== undefined) return [{ qualifier, value: quoted.replace(/\\(.)/gsu, '$1') }];
  return bare === undefined ? [] : [{ qualifier, value: bare }];
}

/** The query that asks for all of these. */
export function queryOf(conditions: readonly Condition[]): TaskQuery {
  const valuesOf = (wanted: Condition['qualifier']) =>
    conditions.filter((condition) => condition.qualifier === wanted).map((condition) => condition.value);
  const distinct = (wanted: Condition['qualifier']) => [...new Set(valuesOf(wanted))];
  return {
    statuses: distinct('status'),
    groups: distinct('group'),
    users: distinct('user'),
    idPrefix: valuesOf('id').at(-1) ?? '',
    namePrefix: valuesOf('name').at(-1) ?? '',
    addrPrefix: valuesOf('addr').at(-1) ?? '',
    words: valuesOf('text').flatMap(wordsOf),
  };
}

/** The words of a free text. */
function wordsOf(text: string): string[] {
  return text.split(/\s+/u).filter((word) => word !== '');
}

/** The conditions of a query, in the order in which they are written. */
export function conditionsOf(query: TaskQuery): Condition[] {
  const all = (qualifier: Qualifier, values: readonly string[]) => values.map((value) => ({ qualifier, value }));
  const once = (qualifier: Qualifier, value: string) => (value === '' ? [] : [{ qualifier, value }]);
  return [
    ...all('status', query.statuses),
    ...all('group', query.groups),
    ...all('user', query.users),
    ...once('id', query.idPrefix),
    ...once('name', query.namePrefix),
    ...once('addr', query.addrPrefix),
    ...(query.words.length === 0 ? [] : [{ qualifier: 'text' as const, value: query.words.join(' ') }]),
  ];
}

/** The query without one of its conditions. */
export function withoutCondition(query: TaskQuery, gone: Condition): TaskQuery {
  return queryOf(
    conditionsOf(query).filter((condition) => condition.qualifier !== gone.qualifier || condition.value !== gone.value),
  );
}

/** The query with a status asked for that was not, or no longer asked for that was. */
export function withStatusToggled(query: TaskQuery, status: string): TaskQuery {
  const statuses = query.statuses.includes(status)
    ? query.statuses.filter((asked) => asked !== status)
    : [...query.statuses, status];
  return { ...query, statuses };
}

/** Whether the query asks for nothing, so that every task matches. */
export function isEmptyQuery(query: TaskQuery): boolean {
  return conditionsOf(query).length === 0;
}

/** A query as the text that asks for it; reading that text gives the same query. */
export function formatQuery(query: TaskQuery): string {
  return conditionsOf(query)
    .map(({ qualifier, value }) =>
      qualifier === 'text' ? wordsOf(value).map(writeWord).join(' ') : `${qualifier}:${writeValue(value)}`,
    )
    .join(' ');
}

function writeValue(value: string): string {
  return value === '' || /[\s"]/u.test(value) ? quote(value) : value;
}

function writeWord(word: string): string {
  return word.includes('"') || /^(?:status|group|user|id|name|addr)[:：]/iu.test(word) ? quote(word) : word;
}

function quote(text: string): string {
  return `"${text.replace(/["\\]/g, '\\$&')}"`;
}
