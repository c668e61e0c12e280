/** The scenarios of every day, small and at the same time; the others are in liveness.test.ts. */
import { describe, it } from 'vitest';
import { scenario } from './scenario.js';
import { killFirst, tellOneStory } from './scenarios/histories.js';
import { loseHalfAndExpire, loseOne } from './scenarios/network.js';
import { killOneOfThree, stopWithLeases } from './scenarios/servers.js';

describe.concurrent('in small, ', { timeout: 180_000 }, () => {
  it(
    'kill -9 of one of three servers',
    scenario((world) => killOneOfThree(world, { services: 120, dying: 20, beside: 30 })),
  );
  it(
    'a graceful stop of one of two servers, with leases over gRPC',
    scenario((world) => stopWithLeases(world, { services: 20, dying: 5 })),
  );
  it(
    'a black hole in front of one service',
    scenario((world) => loseOne(world, { services: 60 })),
  );
  it(
    'a black hole in front of half of the services, and "expire now"',
    scenario((world) => loseHalfAndExpire(world, { services: 60 })),
  );
  it(
    'kill -9 of one of two servers, while 6 clients of three doors write and read the same tasks',
    scenario((world) => tellOneStory(world, { callers: 1 }, [killFirst])),
  );
});
