/** Scopes and filters as SQL conditions. Values always travel as parameters. */
import type { Scope } from '../domain/access.js';
import type { TaskFilter } from '../domain/ports.js';

/** Collects the parameters of one statement. */
export class Parameters {
  readonly values: unknown[] = [];

  /** Adds a value and returns its place holder. */
  add(value: unknown): string {
    this.values.push(value);
    return `$${this.values.length}`;
  }
}

/** The condition that a scope sets, the same that `isVisible` states in TypeScript. */
export function scopeCondition(scope: Scope, parameters: Parameters): string {
  if (scope === 'everything') return 'true';
  const conditions: string[] = [];
  if (scope.wholeGroups.length > 0) conditions.push(`group_id = ANY (${parameters.add(scope.wholeGroups)}::text[])`);
  if (scope.ownGroups.length > 0) {
    const user = parameters.add(scope.user);
    conditions.push(`(user_id = ${user} AND group_id = ANY (${parameters.add(scope.ownGroups)}::text[]))`);
  }
  return conditions.length === 0 ? 'false' : `(${conditions.join(' OR ')})`;
}

/**
 * The condition that a filter sets; a list of values that is there and empty lets nothing through. `unicode` names the
 * collation that knows the case of every letter.
 */
export function filterCondition(filter: TaskFilter, unicode: string, parameters: Parameters): string {
  const like = (column: string, prefix: string | undefined) =>
    prefix ? [`${column} LIKE ${parameters.add(`${escapeLike(prefix)}%`)}`] : [];
  const oneOf = (column: string, values: readonly string[] | undefined) =>
    values ? [`${column} = ANY (${parameters.add(values)}::text[])`] : [];
  const conditions = [
    ...oneOf('status', filter.statuses),
    ...oneOf('group_id', filter.groupIds),
    ...oneOf('user_id', filter.users),
    ...like('id', filter.idPrefix),
    ...like('addr', filter.addrPrefix),
    ...(filter.namePrefix
      ? [caseless(['name'], filter.namePrefix, `${escapeLike(filter.namePrefix)}%`, unicode, parameters)]
      : []),
    ...(filter.startedFrom ? [`started_at >= ${parameters.add(filter.startedFrom)}::timestamptz`] : []),
    ...(filter.startedUntil ? [`started_at < ${parameters.add(filter.startedUntil)}::timestamptz`] : []),
    ...(filter.connected === undefined ? [] : [`session_id IS ${filter.connected ? 'NOT ' : ''}NULL`]),
    ...(filter.words ?? []).map((word) => caseless(SEARCHED, word, `%${escapeLike(word)}%`, unicode, parameters)),
  ];
  return conditions.length === 0 ? 'true' : conditions.join(' AND ');
}

/** Where words are looked for, the shortest first. */
const SEARCHED = ['id', 'name', 'addr', 'url', 'description'];

/** Whether one of the columns is like a pattern, whatever the case. ASCII is several times faster in the C collation. */
function caseless(columns: readonly string[], text: string, pattern: string, unicode: string, parameters: Parameters) {
  // eslint-disable-next-line no-control-regex -- ASCII begins with the control characters.
  const collation = /^[\x00-\x7f]*$/.test(text) ? '"C"' : unicode;
  const place = parameters.add(pattern);
  return `(${columns.map((column) => `${column} COLLATE ${collation} ILIKE ${place}`).join(' OR ')})`;
}

/** A text in which LIKE sees no wildcard. */
function escapeLike(text: string): string {
  return text.replace(/[\\%_]/g, '\\$&');
}
