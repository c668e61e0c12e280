/** Calls over gRPC that keep much for little: long headers whose message never comes, and answers that nobody takes. */
import { connect } from 'node:http2';
import { create, toBinary } from '@bufbuild/protobuf';
import { ListTasksRequestSchema } from '../../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { framed } from '../../support/rpc-raw.js';
import { callHeaders, END_HEADERS, FRAME, h2Connect, h2Frame, LIST_TASKS, plainHeader } from '../h2-frames.js';
import { Tally, wait, type Attack } from '../attack.js';
import { clientsOf, registerLong, type TaskClient } from './records.js';

const STREAMS = 128;

/** Begins as many calls as a connection may have, with so many headers of a hundred bytes each, and sends nothing more. */
function headersWithoutMessages(connections: number, fields: number): Attack {
  return async (target) => {
    const many = Array.from({ length: fields }, (_, n) => plainHeader(`x-some-${n}`, 'v'.repeat(100)));
    const headers = Buffer.concat([callHeaders(LIST_TASKS), ...many]);
    const sockets = Array.from({ length: connections }, () => h2Connect(target.grpc));
    for (const socket of sockets) {
      for (let n = 0; n < STREAMS; n++) socket.write(h2Frame(FRAME.headers, END_HEADERS, 2 * n + 1, headers));
    }
    await wait(target);
    return `${sockets.filter(({ destroyed }) => destroyed).length} of ${connections} connections closed`;
  };
}

export const callsOfLongHeaders = headersWithoutMessages(60, 100);
export const callsOfHeaders = headersWithoutMessages(60, 40);

/** Asks for the longest pages over connections whose windows let nothing through. */
export const unreadAnswers: Attack = async (target) => {
  await registerLong(clientsOf(target)[0] as TaskClient);
  const tally = new Tally();
  const request = framed(toBinary(ListTasksRequestSchema, create(ListTasksRequestSchema, { pageSize: 1_000 })));
  for (let connection = 0; connection < 4; connection++) {
    const session = connect(`http://${target.grpc}`, {
      settings: { initialWindowSize: 0 },
      ...target.from(connection),
    });
    session.on('error', () => {});
    for (let n = 0; n < 100; n++) {
      const stream = session.request({
        ':method': 'POST',
        ':path': LIST_TASKS,
        'content-type': 'application/grpc',
        authorization: `Bearer ${target.token}`,
      });
      stream.on('error', () => tally.add('cut'));
      stream.on('response', (answer) => tally.add(`gRPC ${String(answer['grpc-status'] ?? 'begun')}`));
      stream.end(request);
    }
  }
  await wait(target);
  return tally.toString();
};
