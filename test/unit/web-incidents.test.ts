import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { describe, expect, it } from 'vitest';
import { ProtectionSchema } from '../../proto/gen/taskdash/task/v1/session_service_pb.js';
import { incidentsOf } from '../../web/src/state/incidents.js';

const NOW_MS = Date.UTC(2026, 0, 15, 8, 0, 0);

function protection(node: string, sinceMs: number, more: MessageInitShape<typeof ProtectionSchema> = {}) {
  const times = { since: durationFromMs(sinceMs), endsIn: durationFromMs(900_000 - sinceMs) };
  return create(ProtectionSchema, { node, lost: 60, of: 200, held: 12, ...times, ...more });
}

describe('incidents', () => {
  it('say when they began and when they end, by the clock of the browser', () => {
    expect(incidentsOf([protection('node-1', 60_000, { heldBy: 'user:root' })], NOW_MS, [])).toEqual([
      {
        ...{ node: 'node-1', lost: 60, of: 200, held: 12, heldBy: 'user:root' },
        sinceMs: NOW_MS - 60_000,
        endsAtMs: NOW_MS + 840_000,
      },
    ]);
  });

  it('stay where they were when an answer took longer to arrive', () => {
    const before = incidentsOf([protection('node-1', 60_000)], NOW_MS, []);
    const [after] = incidentsOf([protection('node-1', 62_000, { held: 20 })], NOW_MS + 4_500, before);
    expect(after).toMatchObject({ sinceMs: before[0]?.sinceMs, endsAtMs: before[0]?.endsAtMs, held: 20 });
  });

  it('end later when somebody decided to hold, and begin anew when they began anew', () => {
    const before = incidentsOf([protection('node-1', 60_000), protection('node-2', 60_000)], NOW_MS, []);
    const held = protection('node-1', 61_000, { endsIn: durationFromMs(900_000) });
    const [first, second] = incidentsOf([held, protection('node-2', 500)], NOW_MS + 1_000, before);
    expect(first).toMatchObject({ sinceMs: before[0]?.sinceMs, endsAtMs: NOW_MS + 901_000 });
    expect(second?.sinceMs).toBe(NOW_MS + 500);
  });

  it('are gone when the server names them no more', () => {
    expect(incidentsOf([], NOW_MS, incidentsOf([protection('node-1', 0)], NOW_MS, []))).toEqual([]);
  });
});
