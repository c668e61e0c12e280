/** Everything that the rest of the server gets from PostgreSQL, opened and closed as one. */
import type { DataSource } from 'typeorm';
import { systemClock, type Clock } from '../domain/clock.js';
import type { Log, StorageHealth } from '../domain/ports.js';
import { AddressQuestionChannel } from './address-question-channel.js';
import { ChangeListener } from './change-listener.js';
import { KnownNodes } from './known-nodes.js';
import { LeaseBeatChannel } from './lease-beat-channel.js';
import { LockedRows } from './locked-rows.js';
import { NotificationListener } from './notification-listener.js';
import { connect, createDataSource, type DataSourceSettings } from './data-source.js';
import { PostgresIdentityStore } from './identity-store.js';
import { migrate } from './migrate.js';
import { PostgresNodeStore } from './node-store.js';
import { asStorageError } from './postgres-errors.js';
import { Postgres } from './postgres.js';
import { PostgresSessionStore } from './session-store.js';
import { settle } from './settle.js';
import { SettingsStore } from './settings-store.js';
import { Outage } from './outage.js';
import { PostgresHealth } from './storage-health.js';
import { PostgresFeedStore } from './task-feed-store.js';
import { PostgresTaskStore } from './task-store.js';
import { findUnicodeCollation } from './unicode-collation.js';

/** How long a renewal of the node's lease may take. */
const LEASE_TIMEOUT_MS = 3000;

/** How to open storage. */
export interface StorageSettings {
  /** postgres://user:password@host:port/database */
  readonly url: string;
  /** This node's name, as histories tell it. */
  readonly nodeId: string;
  /** Connections for queries; one more listens for changes, and one renews leases. */
  readonly poolSize: number;
  readonly log: Log;
  /** Stands in for the database's clock, which tells the instants that are stored; for tests. */
  readonly clock?: Clock;
}

/** The open storage. */
export interface Storage {
  readonly tasks: PostgresTaskStore;
  readonly feed: PostgresFeedStore;
  readonly hints: ChangeListener;
  readonly beats: LeaseBeatChannel;
  readonly questions: AddressQuestionChannel;
  readonly health: StorageHealth;
  readonly settings: SettingsStore;
  readonly identity: PostgresIdentityStore;
  readonly nodes: PostgresNodeStore;
  readonly knownNodes: KnownNodes;
  readonly sessions: PostgresSessionStore;
  readonly dataSource: DataSource;
  readonly postgres: Postgres;
  /** The name of the latest migration. */
  readonly schemaVersion: string;
  /** The migrations that this opening ran, in order. */
  readonly migrated: readonly string[];
  /** Closes every connection; idempotent. */
  close(): Promise<void>;
}

/**
 * Migrates the schema, opens every store and begins to listen for changes. Throws SchemaError (a newer schema, too old a
 * server), STORAGE_UNAVAILABLE; then nothing is left open.
 */
export async function openStorage(settings: StorageSettings): Promise<Storage> {
  const { url, nodeId, log } = settings;
  const connection = await settle({ url, applicationName: `taskdash ${nodeId}`, log });
  const migrated = await migrate(connection);
  const dataSource = createDataSource({ ...connection, poolSize: settings.poolSize });
  // Leases have a connection of their own: a crowd at the others must not cost the node its lease.
  const leases = createDataSource({ ...connection, poolSize: 1, statementTimeoutMs: LEASE_TIMEOUT_MS });
  const closePools = async () => {
    for (const source of [leases, dataSource]) if (source.isInitialized) await source.destroy();
  };
  try {
    await connect(dataSource);
    await connect(leases);
    return { ...(await openStores(settings, connection, { dataSource, leases, closePools })), migrated };
  } catch (error) {
    await closePools();
    throw asStorageError(error);
  }
}

interface Pools {
  readonly dataSource: DataSource;
  readonly leases: DataSource;
  readonly closePools: () => Promise<void>;
}

async function openStores(
  { clock, nodeId }: StorageSettings,
  connection: Omit<DataSourceSettings, 'poolSize'>,
  { dataSource, leases, closePools }: Pools,
): Promise<Omit<Storage, 'migrated'>> {
  const outage = new Outage(connection.log, systemClock);
  const postgres = new Postgres(dataSource, connection.log, outage);
  const settings = new SettingsStore(postgres);
  const unicodeCollation = await findUnicodeCollation(postgres);
  const feed = new PostgresFeedStore(postgres);
  // Their pauses are about the network, not about what is stored: they run on the machine's clock.
  const notifications = new NotificationListener(postgres, { ...connection, clock: systemClock });
  const hints = new ChangeListener(postgres, notifications, systemClock, connection.log);
  const beats = new LeaseBeatChannel(postgres, notifications, systemClock, connection.log);
  const questions = new AddressQuestionChannel(postgres, notifications, systemClock, connection.log);
  const lockedRows = new LockedRows(postgres, connection.log, () => systemClock.monotonicMs());
  notifications.start();
  return {
    tasks: new PostgresTaskStore(postgres, lockedRows, { clock, nodeId, unicodeCollation }),
    feed,
    hints,
    beats,
    questions,
    health: new PostgresHealth(postgres),
    settings,
    identity: new PostgresIdentityStore(postgres),
    nodes: new PostgresNodeStore(new Postgres(leases, connection.log, outage), lockedRows),
    knownNodes: new KnownNodes(postgres),
    sessions: new PostgresSessionStore(postgres, lockedRows),
    dataSource,
    postgres,
    schemaVersion: dataSource.migrations.at(-1)?.name ?? '',
    close: async () => {
      hints.stop();
      beats.stop();
      questions.stop();
      outage.stop();
      await notifications.stop();
      await closePools();
    },
  };
}
