/** Mass silence on servers, as the page shows it: instants instead of the contract's durations. */
import type { Protection } from '../../../proto/gen/taskdash/task/v1/session_service_pb.js';
import { durationMs } from './timeline.js';

/** One server that protects tasks from mass silence; instants in milliseconds since 1970, by this browser's clock. */
export interface Incident {
  readonly node: string;
  readonly sinceMs: number;
  /** When it ends by itself. */
  readonly endsAtMs: number;
  /** How many sessions had fallen silent or closed when it began, of how many. */
  readonly lost: number;
  readonly of: number;
  /** How many sessions are held now. */
  readonly held: number;
  /** The administrator who decided to hold; empty when nobody did. */
  readonly heldBy: string;
}

/** Answers take different times to arrive; instants that differ by no more than this are the same. */
const SAME_WITHIN_MS = 3_000;

/** What the server answered at `nowMs`. Instants that only seem to have moved since the answer before stay as they were. */
export function incidentsOf(
  answer: readonly Protection[],
  nowMs: number,
  before: readonly Incident[],
): readonly Incident[] {
  return answer.map(({ node, since, endsIn, lost, of, held, heldBy }) => {
    const former = before.find((incident) => incident.node === node);
    const sinceMs = nowMs - (since ? durationMs(since) : 0);
    const endsAtMs = nowMs + (endsIn ? durationMs(endsIn) : 0);
    return {
      ...{ node, lost, of, held, heldBy },
      sinceMs: steady(former?.sinceMs, sinceMs),
      endsAtMs: steady(former?.endsAtMs, endsAtMs),
    };
  });
}

function steady(formerMs: number | undefined, ms: number): number {
  return formerMs !== undefined && Math.abs(formerMs - ms) <= SAME_WITHIN_MS ? formerMs : ms;
}
