/**
 * Warns of another server that runs under the name of this one: histories, and orders to a node, cannot tell them apart.
 *
 * Whether there is one is looked up once, a little more than a lease after the start. What ran under the name before, as this
 * server itself before a restart, has lost its lease by then; and of two that run, whichever started later finds the other.
 */
import type { Clock } from './domain/clock.js';
import type { NodeIdentity } from './domain/liveness-ports.js';
import type { Log } from './domain/ports.js';

const MARGIN_MS = 500;

/** What is looked up, and who is told. */
export interface NamesakeOptions {
  readonly nodes: { hasNamesake(node: NodeIdentity): Promise<boolean> };
  readonly clock: Clock;
  readonly log: Log;
  readonly leaseMs: number;
}

/** Looks when it is time to; returns how to look no more. */
export function watchForNamesakes(node: NodeIdentity, { nodes, clock, log, leaseMs }: NamesakeOptions): () => void {
  const timer = clock.schedule(leaseMs + MARGIN_MS, () => {
    nodes.hasNamesake(node).then(
      (hasOne) => hasOne && log.warn({ node: node.name }, WARNING),
      (error: unknown) => log.warn({ err: error }, 'whether another server has the name of this one is not known'),
    );
  });
  return () => timer.cancel();
}

const WARNING =
  'another server that runs has the name of this one, so that histories cannot tell them apart; set TASKDASH_NODE_NAME to ' +
  'another name in one of them, or leave it out';
