import { beforeEach, describe, expect, it } from 'vitest';
import type { TaskWrite } from '../../server/domain/ports.js';
import { ReadyWrites } from '../../server/domain/ready-writes.js';
import { registration } from '../support/task-writes.js';

interface Entry {
  readonly write: TaskWrite;
}

const ALL = { writes: 1_000, length: 1_000_000 };

let ready: ReadyWrites<Entry>;

beforeEach(() => {
  ready = new ReadyWrites();
});

function add(actor: string, ids: readonly string[], description = ''): void {
  for (const id of ids) ready.add({ write: { ...registration(id, { description, status: '' }), actor } });
}

function numbered(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, n) => `${prefix}${n}`);
}

function take(bounds: Partial<typeof ALL> = {}): string[] {
  return ready.take({ ...ALL, ...bounds }).map(({ write }) => write.id);
}

describe('writes that are ready', () => {
  it('leave in the order in which one actor made them', () => {
    add('service:10.0.0.1', numbered('a', 40));
    expect([...take({ writes: 25 }), ...take()]).toEqual(numbered('a', 40));
    expect([ready.size, take()]).toEqual([0, []]);
  });

  it('of somebody who comes alone are in the next batch, however many of another one wait', () => {
    add('service:10.0.0.1', numbered('crowd', 5_000));
    add('token:lone', ['lone']);
    const batch = take({ writes: 256 });
    expect(batch).toContain('lone');
    expect(batch).toHaveLength(256);
    expect(ready.size).toBe(4_745);
  });

  it('are in it also where those of the other one are as long as they may be', () => {
    add('service:10.0.0.1', numbered('long', 100), 'x'.repeat(8_192));
    add('token:lone', ['lone']);
    const batch = take({ length: 40_000 });
    expect(batch).toEqual(['long0', 'lone', 'long1', 'long2', 'long3']);
  });

  it('of more actors than a batch takes leave one after the other, and nobody twice before everybody once', () => {
    for (const actor of numbered('token:', 6)) add(actor, [`${actor}-first`, `${actor}-second`], 'x'.repeat(5_000));
    const first = [...take({ writes: 4 }), ...take({ writes: 2 })];
    expect(first).toEqual(numbered('token:', 6).map((actor) => `${actor}-first`));
    expect(take()).toEqual(numbered('token:', 6).map((actor) => `${actor}-second`));
  });

  it('longer than a batch may be leave alone', () => {
    add('token:long', ['long'], 'x'.repeat(500));
    add('token:short', ['short']);
    expect([take({ length: 100 }), take({ length: 100 })]).toEqual([['long'], ['short']]);
  });

  it('keep the order of an actor while others take turns with it', () => {
    add('a', numbered('a', 60));
    add('b', numbered('b', 60));
    const taken: string[] = [];
    while (ready.size > 0) taken.push(...take({ writes: 7 }));
    expect(taken.filter((id) => id.startsWith('a'))).toEqual(numbered('a', 60));
    expect(taken.filter((id) => id.startsWith('b'))).toEqual(numbered('b', 60));
    expect(taken.slice(0, 14).filter((id) => id.startsWith('b')).length).toBeGreaterThan(0);
  });
});
