/** What people who mean ill do, done to real servers with real sockets and a real PostgreSQL, one attack after the other. */
import { it } from 'vitest';
import { allDoors } from './attacks/all-doors.js';
import { callsOfHeaders, callsOfLongHeaders, unreadAnswers } from './attacks/calls.js';
import { continuationFlood, hpackBomb, pingFlood, rapidReset, settingsFlood, unreadPings } from './attacks/floods.js';
import {
  longHeaders,
  manyHeaders,
  pipelinedCalls,
  pipelinedHealth,
  pipelinedMetrics,
  unreadPages,
} from './attacks/http.js';
import {
  bombs,
  deepNesting,
  manyElements,
  packedCallsThatFit,
  packedElements,
  tooDeepNesting,
  unfinishedBodies,
  unfinishedCalls,
} from './attacks/messages.js';
import {
  deepBodies,
  endlessRegisters,
  longRegisters,
  manyKeys,
  repeatedHeaders,
  tinyFrames,
  unfinishedFrames,
} from './attacks/legacy.js';
import { logins, manyLeases, randomTokens, smuggling, unreadFinds, updatesOfOne } from './attacks/others.js';
import { longBatches, longCatchUps, longPages } from './attacks/records.js';
import { healthWatches, reflection, slowCalls, slowHeaders, taskWatches } from './attacks/streams.js';
import { scenario } from './scenario.js';

it('JSON of 1.4 million elements, with a good token', scenario(manyElements));
it('JSON that is nested 4 million deep, with a good token', scenario(deepNesting));
it('10 MB of JSON that is nested without end', scenario(tooDeepNesting));
it('2 million elements in binary, packed, with a good token', scenario(packedElements));
it('packed messages of 60 MiB, over HTTP and gRPC', scenario(bombs));
it('200 packed messages at once over gRPC, each of what a message may have', scenario(packedCallsThatFit));
it('300 gRPC messages of 4 MiB that never end', scenario(unfinishedCalls));
it('250 HTTP bodies of 4 MiB that never end', scenario(unfinishedBodies));
it('10,000 watches of health', scenario(healthWatches));
it('reflection asked as fast as it goes', scenario(reflection));
it('5,000 watches of tasks by one token', scenario(taskWatches));
it('10,000 gRPC calls of a byte a second', scenario(slowCalls));
it('7,680 gRPC calls of 10 kB of headers and no message', scenario(callsOfLongHeaders));
it('7,680 gRPC calls of 4 kB of headers and no message', scenario(callsOfHeaders));
it('400 gRPC calls for pages that are never read', scenario(unreadAnswers));
it('1,000 HTTP connections of a byte a second', scenario(slowHeaders));
it('4 HTTP connections that ask for metrics without waiting', scenario(pipelinedMetrics));
it('20 HTTP connections that ask for health without waiting', scenario(pipelinedHealth));
it('20 HTTP connections that call without waiting', scenario(pipelinedCalls));
it('9,000 HTTP requests of 400 headers and no body', scenario(manyHeaders));
it('9,000 HTTP requests of 14 kB of headers and no body', scenario(longHeaders));
it('250 readers of pages who never read', scenario(unreadPages));
it('HTTP/2 streams that are reset at once', scenario(rapidReset));
it('HTTP/2 SETTINGS', scenario(settingsFlood));
it('HTTP/2 PING', scenario(pingFlood));
it('HTTP/2 PING whose answers are not read', scenario(unreadPings));
it('HTTP/2 CONTINUATION', scenario(continuationFlood));
it('HPACK that unpacks to very much', scenario(hpackBomb));
it('requests that two readers would cut apart differently', scenario(smuggling));
it('300 legacy connections that ask for 66 kB and never read', scenario(unreadFinds));
it('160 legacy connections that update one task', scenario(updatesOfOne));
it('50 legacy connections with bodies of 90,000 keys', scenario(manyKeys));
it('50 legacy connections with bodies nested 500,000 deep', scenario(deepBodies));
it('50 legacy connections with 3,000 tiny frames in a piece', scenario(tinyFrames));
it('150 legacy connections with long headers that never read', scenario(repeatedHeaders));
it('1,000 legacy connections that register the longest records', scenario(longRegisters));
it('1,000 legacy connections that register without end', scenario(endlessRegisters));
it('500 legacy connections with frames of 1 MB that never end', scenario(unfinishedFrames));
it('unfinished messages and unread answers at all doors at once', scenario(allDoors));
it('4 readers of pages of the longest records', scenario(longPages));
it('4 watchers that read the longest records again and again', scenario(longCatchUps));
it('4 writers of batches of the longest records', scenario(longBatches));
it('12 callers with random tokens', scenario(randomTokens));
it('200 logins at once', scenario(logins));
it('20,000 leases of one token', scenario(manyLeases));
