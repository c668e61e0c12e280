/**
 * What connections have to know of their database before they can be set up, asked once at the start: in which schema the tables
 * are, and which settings there are. From then on every connection is told: the search path of the database or the role may
 * change while servers run, and by it nothing is lost from sight.
 *
 * The tables are, or will be, where the search path finds them now, else where it has tables made; a path that leads nowhere is
 * none, and then they are in the only schema that has them, else in "public".
 */
import { connect, createDataSource, MIGRATIONS_TABLE, type DataSourceSettings } from './data-source.js';
import { asStorageError } from './postgres-errors.js';
import { optionsOf, YOUNG_SESSION } from './session-options.js';

const ASK = `
SELECT quote_ident(COALESCE(
  (SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.oid = to_regclass('${MIGRATIONS_TABLE}')),
  NULLIF(current_schema(), 'pg_catalog'),
  (SELECT min(nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE relname = '${MIGRATIONS_TABLE}' AND relkind = 'r' HAVING count(*) = 1),
  'public')) AS schema,
  (SELECT json_agg(name) FROM pg_settings WHERE name = ANY (string_to_array($1, ' '))) AS known`;

/** The same settings, with what every connection has to be told. Throws STORAGE_UNAVAILABLE. */
export async function settle<S extends Omit<DataSourceSettings, 'poolSize'>>(settings: S): Promise<S> {
  const dataSource = createDataSource({ ...settings, poolSize: 1 });
  try {
    await connect(dataSource);
    const young = Object.keys(YOUNG_SESSION).join(' ');
    const [found] = await dataSource.query<{ schema: string; known: string[] | null }[]>(ASK, [young]);
    const known = Object.entries(YOUNG_SESSION).filter(([name]) => found?.known?.includes(name));
    const options = optionsOf({ search_path: found?.schema ?? 'public', ...Object.fromEntries(known) });
    return { ...settings, options };
  } catch (error) {
    throw asStorageError(error);
  } finally {
    if (dataSource.isInitialized) await dataSource.destroy();
  }
}
