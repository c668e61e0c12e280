/** Strangers with tokens that they made up, beside somebody whose token is good: counted in queries, not in time. */
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hashOf } from '../../server/domain/secrets.js';
import { RpcRig } from '../support/rpc-rig.js';
import { until } from '../support/tcpx-rig.js';

const STRANGERS = 12;
const TOKENS_EACH = 100;
const HONEST_CALLS = 100;

let rig: RpcRig;
let token: string;
/** Look-ups of strangers' tokens that have reached the store. */
let lookUps: number;
/** What these wait for. */
let gate: Promise<void>;

beforeEach(async () => {
  rig = await RpcRig.start();
  token = await rig.token();
  lookUps = 0;
  gate = Promise.resolve();
  const find = rig.identity.findTokenByHash.bind(rig.identity);
  rig.identity.findTokenByHash = async (hash) => {
    if (hash === hashOf(token)) return find(hash);
    lookUps++;
    await gate;
    return find(hash);
  };
});
afterEach(() => rig.stop());

/** The HTTP status of one call. */
async function call(bearer: string): Promise<number> {
  const response = await fetch(`${rig.http.address}/taskdash.task.v1.TaskService/GetTask`, {
    method: 'POST',
    headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' },
    body: '{"id":"nothing"}',
  });
  await response.arrayBuffer();
  return response.status;
}

async function guess(times: number): Promise<number[]> {
  const statuses: number[] = [];
  for (let n = 0; n < times; n++) statuses.push(await call(`tdt_${randomBytes(32).toString('base64url')}`));
  return statuses;
}

async function callHonestly(): Promise<void> {
  for (let n = 0; n < HONEST_CALLS; n++) expect(await call(token)).toBe(404);
}

describe('tokens that are made up', () => {
  it('cost the database next to nothing, and are answered definitely', async () => {
    await call(token);
    const beganAtMs = performance.now();
    const guesses = Promise.all(Array.from({ length: STRANGERS }, () => guess(TOKENS_EACH)));
    await callHonestly();
    expect(new Set((await guesses).flat())).toEqual(new Set([401, 429]));
    // What a network may guess at once, what was under way then, and one a second.
    expect(lookUps).toBeLessThanOrEqual(20 + 4 + (performance.now() - beganAtMs) / 1000);
  });

  it('keep four of the database’s connections at most, however long it takes to look for them, and nobody honest', async () => {
    await call(token);
    let open = () => {};
    gate = new Promise((resolve) => (open = resolve));
    const guesses = Promise.all(Array.from({ length: STRANGERS }, () => guess(1)));
    await until('four are looked for', () => lookUps === 4);
    await callHonestly();
    expect(lookUps).toBe(4);
    open();
    expect((await guesses).flat()).toHaveLength(STRANGERS);
  });
});
