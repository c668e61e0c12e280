import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { DataSource } from 'typeorm';
import { AddressQuestionChannel } from '../../server/storage/address-question-channel.js';
import { ChangeListener } from '../../server/storage/change-listener.js';
import { LeaseBeatChannel } from '../../server/storage/lease-beat-channel.js';
import { NotificationListener } from '../../server/storage/notification-listener.js';
import { createDataSource } from '../../server/storage/data-source.js';
import { Postgres } from '../../server/storage/postgres.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { ManualClock } from '../support/manual-clock.js';
import { silentLog } from '../support/silent-log.js';
import { startStallingProxy, type StallingProxy } from '../support/stalling-proxy.js';

let database: TestDatabase;
let proxy: StallingProxy;
let dataSource: DataSource;
let clock: ManualClock;
const opened: TestListener[] = [];

beforeAll(async () => {
  database = await createTestDatabase();
  proxy = await startStallingProxy(database.url);
  // One connection, so that what is asked later is answered after every notification that was sent before.
  dataSource = createDataSource({ url: database.url, poolSize: 1, applicationName: 'test', log: silentLog });
  await dataSource.initialize();
});
beforeEach(() => {
  clock = new ManualClock();
});
afterEach(async () => {
  proxy.restore();
  for (const listener of opened.splice(0)) await listener.stop();
  // Nobody of the next test hears what this one announced.
  await dataSource.query('SELECT 1');
});
afterAll(async () => {
  await dataSource.destroy();
  await proxy.stop();
  await database.drop();
});

/** What a node hears through the proxy, and announces directly. */
class TestListener {
  readonly #notifications: NotificationListener;
  readonly #changes: ChangeListener;
  readonly beats: LeaseBeatChannel;
  readonly questions: AddressQuestionChannel;

  constructor(applicationName: string) {
    const postgres = new Postgres(dataSource, silentLog);
    const settings = { url: proxy.url, applicationName, clock, log: silentLog, answerTimeoutMs: 300 };
    this.#notifications = new NotificationListener(postgres, settings);
    this.#changes = new ChangeListener(postgres, this.#notifications, clock, silentLog);
    this.beats = new LeaseBeatChannel(postgres, this.#notifications, clock, silentLog);
    this.questions = new AddressQuestionChannel(postgres, this.#notifications, clock, silentLog);
  }

  get isListening(): boolean {
    return this.#notifications.isListening;
  }

  start(): void {
    this.#notifications.start();
  }

  announce(): void {
    this.#changes.announce();
  }

  listen(onHint: () => void): () => void {
    return this.#changes.listen(onHint);
  }

  async stop(): Promise<void> {
    this.#changes.stop();
    this.beats.stop();
    this.questions.stop();
    await this.#notifications.stop();
  }
}

/** A node that listens through the proxy, and how many hints it was given. */
async function startNode(): Promise<{ listener: TestListener; hints: () => number }> {
  const listener = new TestListener('test');
  opened.push(listener);
  let hints = 0;
  listener.listen(() => hints++);
  listener.start();
  // The first hint says that listening has begun.
  await until(() => hints === 1);
  hints = 0;
  return { listener, hints: () => hints };
}

async function until(condition: () => boolean): Promise<void> {
  for (let attempt = 0; attempt < 500; attempt++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error('it did not come true within 5 s');
}

/** Long enough for a notification that was sent to arrive. */
async function settle(): Promise<void> {
  await dataSource.query('SELECT 1');
  await new Promise((resolve) => setTimeout(resolve, 100));
}

describe('an announcement', () => {
  it('is a hint here at once, and on other nodes soon', async () => {
    const [here, there] = [await startNode(), await startNode()];
    here.listener.announce();
    expect(here.hints()).toBe(1);
    await until(() => there.hints() === 1);
    await settle();
    // Its own notification is no second hint.
    expect(here.hints()).toBe(1);
  });

  it('in a crowd of them becomes one now and one after a pause', async () => {
    const [here, there] = [await startNode(), await startNode()];
    for (let count = 0; count < 100; count++) here.listener.announce();
    expect(here.hints()).toBe(1);
    clock.advance(49);
    expect(here.hints()).toBe(1);
    clock.advance(1);
    expect(here.hints()).toBe(2);
    clock.advance(1000);
    expect(here.hints()).toBe(2);
    await until(() => there.hints() === 2);
    await settle();
    expect(there.hints()).toBe(2);
  });

  it('reaches every listener until it stops listening', async () => {
    const { listener, hints } = await startNode();
    let others = 0;
    const stop = listener.listen(() => others++);
    listener.announce();
    stop();
    stop();
    clock.advance(50);
    listener.announce();
    expect([hints(), others]).toEqual([2, 1]);
  });

  it('after the end does nothing', async () => {
    const [here, there] = [await startNode(), await startNode()];
    await here.listener.stop();
    await here.listener.stop();
    here.listener.announce();
    await settle();
    expect([here.hints(), there.hints(), clock.pendingTimers]).toEqual([0, 0, 1]);
  });
});

describe('a listening connection', () => {
  it('that is cut comes back, with a hint for what was missed', async () => {
    const { listener, hints } = await startNode();
    proxy.cut();
    await until(() => !listener.isListening);
    clock.advance(100);
    await until(() => hints() === 1);
    expect(listener.isListening).toBe(true);
  });

  it('is tried again ever more slowly while the database is away', async () => {
    const { listener, hints } = await startNode();
    proxy.stall();
    proxy.cut();
    await until(() => !listener.isListening);
    for (const pauseMs of [100, 200, 400]) {
      await until(() => clock.pendingTimers === 1);
      clock.advance(pauseMs - 1);
      expect(clock.pendingTimers).toBe(1);
      clock.advance(1);
    }
    await until(() => clock.pendingTimers === 1);
    proxy.restore();
    clock.advance(5000);
    await until(() => hints() === 1);
  });

  it('that is dead without having noticed is found out by its probe', async () => {
    const { listener, hints } = await startNode();
    proxy.stall();
    clock.advance(15_000);
    await until(() => !listener.isListening);
    proxy.restore();
    clock.advance(100);
    await until(() => hints() === 1);
  });

  it('begins once, however often it is started', async () => {
    const { listener } = await startNode();
    listener.start();
    await settle();
    const [row] = await dataSource.query<{ count: number }[]>(
      `SELECT count(*)::int AS count FROM pg_stat_activity
       WHERE datname = current_database() AND application_name = 'test listener'`,
    );
    expect(row?.count).toBe(1);
  });

  it('that stops while it connects leaves nothing behind', async () => {
    const listener = new TestListener('brief');
    for (let round = 0; round < 3; round++) {
      listener.start();
      await listener.stop();
    }
    await settle();
    const rows = await dataSource.query<unknown[]>(
      `SELECT FROM pg_stat_activity WHERE application_name = 'brief listener'`,
    );
    expect([rows.length, clock.pendingTimers]).toEqual([0, 0]);
  });
});

describe('beats of leases', () => {
  const DEAF = { onBeats: () => {}, onOver: () => {}, onAsked: () => {}, onAnswered: () => {} };

  it('are asked for, and answered to who asked alone', async () => {
    const nodes = [await startNode(), await startNode(), await startNode()].map(({ listener: { beats } }) => beats);
    const heard: (string | number | undefined)[][] = [];
    for (const [place, beats] of nodes.entries()) {
      beats.join(`node-${place}`, {
        ...DEAF,
        onAsked: (from, id, question) => beats.answer(from, id, question, id === 'lease-1' ? place * 100 : undefined),
        onAnswered: (from, ...answer) => heard.push([`node-${place}`, from, ...answer]),
      });
    }
    nodes[0]?.ask('lease-1', 7);
    nodes[0]?.ask('lease-2', 8);
    clock.advance(200);
    await until(() => clock.pendingTimers >= 5);
    clock.advance(200);
    await until(() => heard.length === 4);
    expect(heard.sort()).toEqual([
      ['node-0', 'node-1', 'lease-1', 7, 100],
      ['node-0', 'node-1', 'lease-2', 8, undefined],
      ['node-0', 'node-2', 'lease-1', 7, 200],
      ['node-0', 'node-2', 'lease-2', 8, undefined],
    ]);
  });

  it('that cannot be told are known to wait, and for how long', async () => {
    const { listener } = await startNode();
    expect(listener.beats.untoldForMs).toBe(0);
    await dataSource.destroy();
    listener.beats.tell('lease-1');
    clock.advance(200);
    await new Promise((resolve) => setTimeout(resolve, 50));
    clock.advance(100);
    listener.beats.tell('lease-1');
    expect(listener.beats.untoldForMs).toBe(300);
    await dataSource.initialize();
    clock.advance(500);
    await until(() => listener.beats.untoldForMs === 0);
  });

  it('find out at once whether they are heard, when somebody doubts it', async () => {
    const { listener } = await startNode();
    proxy.stall();
    listener.beats.probe();
    await until(() => !listener.isListening);
  });

  it('that are heard here are told to other nodes soon, each lease once in a round, and not to ourselves', async () => {
    const [here, there] = [await startNode(), await startNode()];
    const [own, told]: string[][] = [[], []];
    here.listener.beats.join('here', { ...DEAF, onBeats: (_from, ids) => own?.push(...ids) });
    there.listener.beats.join('there', {
      ...DEAF,
      onBeats: (from, ids) => told?.push(...ids.map((id) => `${from} ${id}`)),
    });
    const ids = Array.from({ length: 450 }, (_, i) => `00000000-0000-4000-8000-${String(i).padStart(12, '0')}`);
    for (const id of [...ids, ...ids]) here.listener.beats.tell(id);
    expect(told).toEqual([]);
    clock.advance(200);
    await until(() => told?.length === 450);
    await settle();
    expect(told?.sort()).toEqual(ids.map((id) => `here ${id}`));
    expect(own).toEqual([]);
  });

  it('that are over are told to other nodes at once, and not to ourselves', async () => {
    const [here, there] = [await startNode(), await startNode()];
    const told: string[] = [];
    here.listener.beats.join('here', { ...DEAF, onOver: (ids) => told.push(`here ${ids.join()}`) });
    there.listener.beats.join('there', { ...DEAF, onOver: (ids) => told.push(`there ${ids.join()}`) });
    here.listener.beats.tellOver('lease-1');
    clock.advance(10);
    await until(() => told.length === 1);
    await settle();
    expect(told).toEqual(['there lease-1']);
  });

  it('are told again until the database has taken them', async () => {
    const [here, there] = [await startNode(), await startNode()];
    const told: string[] = [];
    there.listener.beats.join('there', { ...DEAF, onBeats: (_from, ids) => told.push(...ids) });
    await dataSource.destroy();
    here.listener.beats.tell('lease-1');
    clock.advance(200);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await dataSource.initialize();
    expect(told).toEqual([]);
    await until(() => clock.pendingTimers >= 3);
    clock.advance(500);
    await until(() => told.length === 1);
  });

  it('are known to be heard only for as long as the connection has listened', async () => {
    const { listener } = await startNode();
    expect(listener.beats.heardForMs).toBe(0);
    clock.advance(7000);
    expect(listener.beats.heardForMs).toBe(7000);
    proxy.cut();
    await until(() => !listener.isListening);
    expect(listener.beats.heardForMs).toBe(0);
  });
});

describe('questions about addresses', () => {
  const DEAF = { onAsked: () => {}, onAnswered: () => {}, onListening: () => {} };

  it('are answered by whoever has somebody there, to who asked alone', async () => {
    const nodes = [await startNode(), await startNode(), await startNode()].map(({ listener }) => listener.questions);
    const heard: (string | number)[][] = [];
    for (const [place, questions] of nodes.entries()) {
      questions.join(`node-${place}`, {
        ...DEAF,
        onAsked: (from, address, atMs) => {
          if (address === '10.0.0.1' || place === 2) questions.answer(from, address, atMs);
        },
        onAnswered: (from, ...answer) => heard.push([`node-${place}`, from, ...answer]),
      });
    }
    nodes[0]?.ask('10.0.0.1', 7);
    nodes[0]?.ask('2001:db8::1', 8);
    clock.advance(10);
    await until(() => clock.pendingTimers >= 5);
    clock.advance(10);
    await until(() => heard.length === 3);
    await settle();
    expect(heard.sort()).toEqual([
      ['node-0', 'node-1', '10.0.0.1', 7],
      ['node-0', 'node-2', '10.0.0.1', 7],
      ['node-0', 'node-2', '2001:db8::1', 8],
    ]);
  });

  it('go out at once, and then in rounds: each address once, with the time at which it was asked last', async () => {
    const [here, there] = [await startNode(), await startNode()];
    const asked: string[] = [];
    here.listener.questions.join('here', DEAF);
    there.listener.questions.join('there', {
      ...DEAF,
      onAsked: (from, address, atMs) => asked.push(`${from} ${address} ${atMs}`),
    });
    const addresses = Array.from({ length: 2000 }, (_, i) => `10.0.${i >> 8}.${i & 255}`);
    for (const address of addresses) here.listener.questions.ask(address, 1);
    for (const address of addresses) here.listener.questions.ask(address, 2);
    here.listener.questions.withdraw('10.0.0.0');
    clock.advance(10);
    await until(() => asked.length === 1999);
    expect(asked).toEqual(addresses.slice(1).map((address) => `here ${address} 2`));
    await until(() => clock.pendingTimers === 2);
    here.listener.questions.ask('10.0.0.1', 3);
    clock.advance(199);
    await settle();
    expect(asked).toHaveLength(1999);
    clock.advance(1);
    await until(() => asked.length === 2000);
  });

  it('that may have been missed are told of when the listening connection stands again', async () => {
    const { listener } = await startNode();
    let begun = 0;
    listener.questions.join('here', { ...DEAF, onListening: () => begun++ });
    proxy.cut();
    await until(() => !listener.isListening);
    expect(begun).toBe(0);
    clock.advance(100);
    await until(() => begun === 1);
  });
});
