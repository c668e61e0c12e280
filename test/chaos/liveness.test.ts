/** What operators fear, done to real servers with real sockets and a real PostgreSQL, one scenario after the other. */
import { it } from 'vitest';
import { scenario } from './scenario.js';
import { behindProxy, cutOff, inNamespace, stopPostgres } from './scenarios/database.js';
import { failOver } from './scenarios/failover.js';
import { tellOneStory } from './scenarios/histories.js';
import { comeBackAtOnce, loseHalfAndExpire, loseHalfForAWhile, loseHalfForGood, loseOne } from './scenarios/network.js';
import { probeTheDead, renewInTurn, returnAmongBystanders, returnInDoubt, returnUnnamed } from './scenarios/returns.js';
import {
  killOneOfThree,
  killTheOnly,
  killWithLeases,
  stopOneOfTwo,
  stopWithLeases,
  suspend,
} from './scenarios/servers.js';
import { FAST, USUAL } from './world.js';

it(
  'kill -9 of one of three servers with 3 000 sessions',
  scenario((world) => killOneOfThree(world, { services: 3000, dying: 300, beside: 600 })),
);
it(
  'kill -9 of the only server, whose services only beat when they are back',
  scenario((world) => killTheOnly(world, { services: 500, dying: 50 })),
);
it(
  'kill -9 of one of two servers, with leases over gRPC',
  scenario((world) => killWithLeases(world, { services: 200, dying: 25 })),
);
it(
  'kill -9 of one of two servers, whose services only beat at the other, each from an address of its own',
  scenario((world) => returnUnnamed(world, { services: 200, dying: 20 })),
);
it(
  'kill -9 of one of two servers right after a renewal, with others who had just come to the other server from some addresses',
  scenario((world) => returnAmongBystanders(world, { services: 200, dying: 20 }), { ...FAST, leaseMs: 6000 }),
);
it(
  'kill -9 of the only server, whose services only beat, some two by two from one address',
  scenario((world) => returnInDoubt(world, { services: 100, pairs: 5 })),
);
it(
  'something that connects, beats and leaves every second from the address of a service that died',
  scenario((world) => probeTheDead(world, { services: 30 })),
);
it(
  'leases over gRPC that are renewed through two servers in turn',
  scenario((world) => renewInTurn(world, { services: 40, dying: 5, forMs: 60_000 })),
);
it(
  'a graceful stop of one of two servers',
  scenario((world) => stopOneOfTwo(world, { services: 1000, dying: 50 })),
);
it(
  'a graceful stop of one of two servers, with leases over gRPC',
  scenario((world) => stopWithLeases(world, { services: 200, dying: 25 })),
);
it(
  'SIGSTOP of the only server for longer than the TTL',
  scenario((world) => suspend(world, { services: 1000, dying: 20, servers: 1 })),
);
it(
  'SIGSTOP of one of two servers for longer than the TTL',
  scenario((world) => suspend(world, { services: 1000, dying: 20, servers: 2 })),
);
it(
  'PostgreSQL stopped for 60 s',
  scenario((world) => stopPostgres(world, { services: 1000, dying: 20, forMs: 60_000 })),
);
it(
  'kill -9 of PostgreSQL, and a standby that lacks the last commits in its place, while 12 clients write and read',
  scenario((world) => failOver(world, { callers: 2, services: 100, dying: 4, behindMs: 1500 })),
);
it(
  'kill -9 of PostgreSQL, and a standby in its place that lacks that some services came back',
  scenario((world) => failOver(world, { callers: 1, services: 100, returning: 12, dying: 4, behindMs: 2000 })),
);
it(
  'a network namespace cut between one of two servers and the database',
  scenario((world) => cutOff(world, { services: 500, dying: 20, beside: 100 }, inNamespace)),
);
it(
  'a black hole between one of two servers and the database',
  scenario((world) => cutOff(world, { services: 1000, dying: 20, beside: 100 }, behindProxy)),
);
it(
  'a black hole in front of one service',
  scenario((world) => loseOne(world, { services: 500 })),
);
it(
  'a black hole in front of half of the services, which are found again',
  scenario((world) => loseHalfForAWhile(world, { services: 1000, dying: 20 })),
);
it(
  'a black hole in front of half of the services, and "expire now"',
  scenario((world) => loseHalfAndExpire(world, { services: 1000 })),
);
it(
  'a black hole in front of half of the services for longer than protection may last',
  scenario((world) => loseHalfForGood(world, { services: 1000, protectionMs: 20_000 })),
);
it(
  'all services of one server coming back within 10 s: 20 000, or as many as the machine allows a server',
  scenario((world) => comeBackAtOnce(world, { services: 20_000, dying: 200 }), USUAL),
);
it(
  'two servers and their database hurt in turn, while 12 clients of three doors write and read the same tasks',
  scenario((world) => tellOneStory(world, { callers: 2, beside: { services: 100, dying: 4 } })),
);
