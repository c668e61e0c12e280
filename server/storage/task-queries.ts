/** Reading tasks: by id, in pages, counted, and their history. The scope is part of every query. */
import { eventIn, type Scope } from '../domain/access.js';
import type {
  GroupCounts,
  StatusCount,
  TaskCounts,
  TaskFilter,
  TaskOrderField,
  TaskPageQuery,
} from '../domain/ports.js';
import { storedBytesOf, type Task, type TaskEvent } from '../domain/task.js';
import type { Postgres, Statement } from './postgres.js';
import { filterCondition, Parameters, scopeCondition } from './task-conditions.js';
import {
  HISTORY_COLUMNS,
  previousOwnerOf,
  storedBytes,
  TASK_COLUMNS,
  taskEventOf,
  taskOf,
  type HistoryRow,
  type TaskRow,
} from './task-rows.js';

/** Finds are the hot path of services, which see everything: prepared. */
const FIND_MANY: Statement = {
  name: 'task_find_many',
  text: `SELECT ${TASK_COLUMNS} FROM task WHERE id = ANY ($1::text[])`,
};

interface OrderColumn {
  readonly column: string;
  readonly type: 'text' | 'timestamptz';
  /** Whether tasks may have no value; those come last. */
  readonly isOptional: boolean;
}

const ORDER_COLUMNS: Readonly<Record<TaskOrderField, OrderColumn>> = {
  updatedAt: { column: 'updated_at', type: 'timestamptz', isOptional: false },
  id: { column: 'id', type: 'text', isOptional: false },
  name: { column: 'name', type: 'text', isOptional: false },
  status: { column: 'status', type: 'text', isOptional: false },
  user: { column: 'user_id', type: 'text', isOptional: false },
  group_id: { column: 'group_id', type: 'text', isOptional: false },
  startedAt: { column: 'started_at', type: 'timestamptz', isOptional: true },
  stoppedAt: { column: 'stopped_at', type: 'timestamptz', isOptional: true },
};

interface CountRow {
  /** Null in the rows that count all groups together. */
  readonly group_id: string | null;
  readonly status: string;
  readonly count: string;
}

export class TaskQueries {
  /** `unicode`: the collation that knows the case of every letter. */
  constructor(
    private readonly postgres: Postgres,
    private readonly unicode: string,
  ) {}

  /** See TaskStore.findMany. */
  async findMany(scope: Scope, ids: readonly string[]): Promise<Task[]> {
    if (ids.length === 0) return [];
    if (scope === 'everything') return (await this.postgres.rows<TaskRow>(FIND_MANY, [ids])).map(taskOf);
    const parameters = new Parameters();
    const text = `SELECT ${TASK_COLUMNS} FROM task WHERE id = ANY (${parameters.add(ids)}::text[])
      AND ${scopeCondition(scope, parameters)}`;
    return (await this.postgres.adHocRows<TaskRow>(text, parameters.values)).map(taskOf);
  }

  /**
   * See TaskStore.list. Tasks that have a value come first; where they do not fill the page, those without follow by id.
   */
  async list(scope: Scope, query: TaskPageQuery): Promise<Task[]> {
    const inUnvalued = query.after?.value === null;
    const valued = inUnvalued ? [] : await this.#page(scope, query, valuedPart);
    const limit = query.limit - valued.length;
    const maxBytes = query.maxBytes - valued.reduce((sum, task) => sum + storedBytesOf(task), 0);
    if (!ORDER_COLUMNS[query.orderBy].isOptional || limit === 0 || maxBytes <= 0) return valued;
    const { after, ...whole } = query;
    const rest = { ...whole, limit, maxBytes, ...(inUnvalued && after && { after }) };
    return [...valued, ...(await this.#page(scope, rest, unvaluedPart))];
  }

  async #page(scope: Scope, query: TaskPageQuery, part: (query: TaskPageQuery, parameters: Parameters) => string) {
    const parameters = new Parameters();
    const conditions = [scopeCondition(scope, parameters), filterCondition(query.filter, this.unicode, parameters)];
    const page = `SELECT ${TASK_COLUMNS} FROM task WHERE ${conditions.join(' AND ')} AND ${part(query, parameters)}
      LIMIT ${parameters.add(query.limit)}`;
    const text = `SELECT ${TASK_COLUMNS} FROM (
        SELECT *, sum(${storedBytes('id')}) OVER (ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
        FROM (SELECT *, row_number() OVER () AS place FROM (${page}) AS page) AS placed
      ) AS measured WHERE COALESCE(bytes_before, 0) < ${parameters.add(query.maxBytes)}::bigint ORDER BY place`;
    return (await this.postgres.adHocRows<TaskRow>(text, parameters.values)).map(taskOf);
  }

  /** See TaskStore.count. */
  async count(scope: Scope, filter: TaskFilter, bound: number): Promise<number> {
    const parameters = new Parameters();
    const conditions = `${scopeCondition(scope, parameters)} AND ${filterCondition(filter, this.unicode, parameters)}`;
    const text = `SELECT count(*)::int AS count
      FROM (SELECT FROM task WHERE ${conditions} LIMIT ${parameters.add(bound)}) AS matching`;
    const rows = await this.postgres.adHocRows<{ count: number }>(text, parameters.values);
    return rows[0]?.count ?? 0;
  }

  /** See TaskStore.stats. */
  async stats(scope: Scope, filter: TaskFilter, maxGroups: number): Promise<TaskCounts> {
    const parameters = new Parameters();
    const conditions = `${scopeCondition(scope, parameters)} AND ${filterCondition(filter, this.unicode, parameters)}`;
    const text = `
      WITH counted AS MATERIALIZED (
        SELECT group_id, status, count(*) AS count FROM task WHERE ${conditions} GROUP BY group_id, status
      ), largest AS (
        SELECT group_id, sum(count) AS total FROM counted GROUP BY group_id
        ORDER BY total DESC, group_id LIMIT ${parameters.add(maxGroups)}
      )
      SELECT NULL AS group_id, status, sum(count) AS count, NULL AS total FROM counted GROUP BY status
      UNION ALL SELECT group_id, status, count, total FROM counted JOIN largest USING (group_id)
      ORDER BY total DESC NULLS FIRST, group_id, count DESC, status`;
    return countsOf(await this.postgres.adHocRows<CountRow>(text, parameters.values));
  }

  /** See TaskStore.events. */
  async events(scope: Scope, taskId: string, beforeId: number | undefined, limit: number): Promise<TaskEvent[]> {
    const parameters = new Parameters();
    const id = parameters.add(taskId);
    const text = `SELECT ${HISTORY_COLUMNS} FROM task_event
      WHERE task_id = ${id} AND seq < ${parameters.add(beforeId ?? Number.MAX_SAFE_INTEGER)}
        AND ${scopeCondition(scope, parameters)}
        AND EXISTS (SELECT FROM task WHERE task.id = ${id} AND ${scopeCondition(scope, parameters)})
      ORDER BY seq DESC LIMIT ${parameters.add(limit)}`;
    const rows = await this.postgres.adHocRows<HistoryRow>(text, parameters.values);
    return rows.map((row) => eventIn(scope, taskEventOf(row), previousOwnerOf(row)));
  }
}

/** The order, and the place after `after`, among tasks that have a value of the order field. */
function valuedPart({ orderBy, ascending, after }: TaskPageQuery, parameters: Parameters): string {
  const { column, type, isOptional } = ORDER_COLUMNS[orderBy];
  const conditions = isOptional ? [`${column} IS NOT NULL`] : [];
  if (after) {
    const value = typeof after.value === 'number' ? new Date(after.value) : after.value;
    const position = `(${parameters.add(value)}::${type}, ${parameters.add(after.id)}::text)`;
    conditions.push(`(${column}, id) ${ascending ? '>' : '<'} ${position}`);
  }
  const direction = ascending ? 'ASC' : 'DESC';
  return `${conditions.join(' AND ') || 'true'} ORDER BY ${column} ${direction}, id ${direction}`;
}

/** The same among tasks that have none. */
function unvaluedPart({ orderBy, ascending, after }: TaskPageQuery, parameters: Parameters): string {
  const position = after ? ` AND id ${ascending ? '>' : '<'} ${parameters.add(after.id)}::text` : '';
  return `${ORDER_COLUMNS[orderBy].column} IS NULL${position} ORDER BY id ${ascending ? 'ASC' : 'DESC'}`;
}

function countsOf(rows: readonly CountRow[]): TaskCounts {
  const counts: StatusCount[] = [];
  const groups = new Map<string, StatusCount[]>();
  for (const row of rows) {
    const list = row.group_id === null ? counts : (groups.get(row.group_id) ?? []);
    list.push({ status: row.status, count: Number(row.count) });
    if (row.group_id !== null) groups.set(row.group_id, list);
  }
  return { counts, groups: [...groups].map(([groupId, list]): GroupCounts => ({ groupId, counts: list })) };
}
