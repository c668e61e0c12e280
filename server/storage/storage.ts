/** Everything that the rest of the server gets from PostgreSQL, opened and closed as one. */
import type { DataSource } from 'typeorm';
import type { Clock } from '../domain/clock.js';
import type { Log, StorageHealth } from '../domain/ports.js';
import { PostgresIdentityStore } from './identity-store.js';
import { createDataSource } from './data-source.js';
import { migrate } from './migrate.js';
import { asStorageError } from './postgres-errors.js';
import { Postgres } from './postgres.js';
import { SettingsStore } from './settings-store.js';
import { PostgresHealth } from './storage-health.js';

/** How to open storage. */
export interface StorageSettings {
  /** postgres://user:password@host:port/database */
  readonly url: string;
  /** This node's name, as histories tell it. */
  readonly nodeId: string;
  /** Connections for queries; one more listens for changes. */
  readonly poolSize: number;
  readonly log: Log;
  /** Tells the instants that are stored. */
  readonly clock: Clock;
}

/** The open storage. */
export interface Storage {
  readonly health: StorageHealth;
  readonly settings: SettingsStore;
  readonly identity: PostgresIdentityStore;
  readonly dataSource: DataSource;
  readonly postgres: Postgres;
  /** Closes every connection; idempotent. */
  close(): Promise<void>;
}

/**
 * Migrates the schema and opens every store. Throws SchemaError (a newer schema, too old a server), STORAGE_UNAVAILABLE,
 * STORAGE_REFUSED.
 */
export async function openStorage(settings: StorageSettings): Promise<Storage> {
  const connection = { url: settings.url, applicationName: `taskdash ${settings.nodeId}`, log: settings.log };
  await migrate(connection);
  const dataSource = createDataSource({ ...connection, poolSize: settings.poolSize });
  try {
    await dataSource.initialize();
  } catch (error) {
    throw asStorageError(error);
  }
  const postgres = new Postgres(dataSource);
  return {
    health: new PostgresHealth(postgres),
    settings: new SettingsStore(postgres),
    identity: new PostgresIdentityStore(postgres),
    dataSource,
    postgres,
    close: async () => {
      if (dataSource.isInitialized) await dataSource.destroy();
    },
  };
}
