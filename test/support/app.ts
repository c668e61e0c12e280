/** A whole TaskDash in this process: real doors on free ports, a database of its own. */
import { createClient, type Client, type Transport } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport } from '@connectrpc/connect-node';
import type { DescService } from '@bufbuild/protobuf';
import { authorized } from '../../client/authorized-transport.js';
import { startApp, type App } from '../../server/app.js';
import { readConfig } from '../../server/config.js';
import type { Role, TokenScope } from '../../server/domain/access.js';
import { systemClock, type Clock } from '../../server/domain/clock.js';
import type { Log } from '../../server/domain/ports.js';
import { Users } from '../../server/domain/users.js';
import { Argon2Hasher } from '../../server/identity/argon2-hasher.js';
import { ZxcvbnJudge } from '../../server/identity/zxcvbn-judge.js';
import { openStorage, type Storage } from '../../server/storage/storage.js';
import { createTestDatabase, type TestDatabase } from './database.js';
import { silentLog } from './silent-log.js';

/** The password of every user that `addUser` adds. */
export const TEST_PASSWORD = 'correct horse battery';

/** A running app, and what tests do to it from the side. */
export interface TestApp {
  readonly app: App;
  readonly http: string;
  readonly grpc: string;
  /** host:port */
  readonly tcp: string;
  readonly database: TestDatabase;
  /** The database from the side, for looking and for adding people. */
  readonly storage: Storage;
  addUser(id: string, memberships?: Readonly<Record<string, Role>>, administrator?: boolean): Promise<void>;
  addToken(groupId: string, scopes?: readonly TokenScope[]): Promise<string>;
  /** A client of a service on one of the doors; `token` goes along with every call. */
  client<S extends DescService>(service: S, door: 'grpc' | 'http', token?: string): Client<S>;
  stop(): Promise<void>;
}

/** What a test wants to be different. */
export interface TestAppOptions {
  readonly settings?: Readonly<Record<string, string>>;
  readonly clock?: Clock;
  readonly log?: Log;
  /** The database of another app, to be its second node. */
  readonly database?: TestDatabase;
}

/** Starts an app; `stop` also drops its database, unless it was given. */
export async function startTestApp(options: TestAppOptions = {}): Promise<TestApp> {
  const database = options.database ?? (await createTestDatabase());
  const config = readConfig({
    TASKDASH_DATABASE_URL: database.url,
    TASKDASH_HTTP_PORT: '0',
    TASKDASH_GRPC_PORT: '0',
    TASKDASH_TCP_PORT: '0',
    TASKDASH_ADMIN_PASSWORD: TEST_PASSWORD,
    TASKDASH_STOP_TIMEOUT: '2s',
    ...options.settings,
  });
  const log = options.log ?? silentLog;
  const app = await startApp(config, log, options.clock);
  const storage = await openStorage({ url: database.url, nodeId: 'test', poolSize: 4, log, clock: systemClock });
  const users = new Users(storage.identity, new Argon2Hasher(), new ZxcvbnJudge(), systemClock);
  const { http, grpc, tcp } = app.addresses;
  const transport = (door: 'grpc' | 'http'): Transport =>
    door === 'grpc'
      ? createGrpcTransport({ baseUrl: `http://${grpc}` })
      : createConnectTransport({ baseUrl: http, httpVersion: '1.1' });
  return {
    app,
    http,
    grpc,
    tcp,
    database,
    storage,
    addUser: (id, memberships = {}, administrator = false) => {
      const roles = new Map(Object.entries(memberships));
      return users.add({ id, displayName: id, password: TEST_PASSWORD, administrator, memberships: roles });
    },
    addToken: async (groupId, scopes = ['register', 'read']) =>
      (await users.createToken({ name: `token-of-${groupId}-${scopes.join('-')}`, groupId, scopes })).secret,
    client: (service, door, token) =>
      createClient(service, token === undefined ? transport(door) : authorized(transport(door), token)),
    stop: async () => {
      await app.stop();
      await storage.close();
      if (!options.database) await database.drop();
    },
  };
}
