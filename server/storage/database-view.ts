/** A database as it is, for whoever must change nothing in it: nothing is migrated. */
import type { IdentityStore, Log, StorageHealth } from '../domain/ports.js';
import { connect, createDataSource } from './data-source.js';
import { PostgresIdentityStore } from './identity-store.js';
import { KnownNodes } from './known-nodes.js';
import { lookAtSchema, type SchemaState } from './migrate.js';
import { Postgres } from './postgres.js';
import { settle } from './settle.js';
import { PostgresHealth } from './storage-health.js';

/** What can be looked at. */
export interface DatabaseView {
  readonly schema: SchemaState;
  readonly health: StorageHealth;
  readonly identity: Pick<IdentityStore, 'countUsers' | 'countAdministrators'>;
  readonly knownNodes: KnownNodes;
}

/** Shows a database to `look`. Throws SchemaError where this version must not run on it, STORAGE_UNAVAILABLE. */
export async function viewDatabase<T>(
  { url, log }: { readonly url: string; readonly log: Log },
  look: (view: DatabaseView) => Promise<T>,
): Promise<T> {
  const connection = await settle({ url, applicationName: 'taskdash doctor', log });
  const dataSource = createDataSource({ ...connection, poolSize: 1 });
  try {
    await connect(dataSource);
    const schema = await lookAtSchema(dataSource);
    const postgres = new Postgres(dataSource, log);
    return await look({
      schema,
      health: new PostgresHealth(postgres),
      identity: new PostgresIdentityStore(postgres),
      knownNodes: new KnownNodes(postgres),
    });
  } finally {
    if (dataSource.isInitialized) await dataSource.destroy();
  }
}
