import type { Postgres, Statement } from './postgres.js';

const KNOWN: Statement = {
  name: 'unicode_collations',
  text: `SELECT collname AS name FROM pg_collation
    WHERE collnamespace = 'pg_catalog'::regnamespace AND collname IN ('pg_c_utf8', 'und-x-icu') ORDER BY collname`,
};

/**
 * The collation that knows the case of every letter, quoted for SQL: the built-in one of PostgreSQL 17, ICU's, or where
 * there is neither, the database's own, which may know no more than ASCII.
 */
export async function findUnicodeCollation(postgres: Postgres): Promise<string> {
  const rows = await postgres.rows<{ name: string }>(KNOWN, []);
  return `"${rows[0]?.name ?? 'default'}"`;
}
