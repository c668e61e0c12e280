/** A gRPC call by hand over HTTP/2: what a client library would hide or never send. */
import { connect, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http2';

/** How a call ended, as it stood on the wire. */
export interface RawAnswer {
  /** grpc-status; undefined when there was none. */
  readonly status: string | undefined;
  /** Response headers and trailers. */
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** A message with its five bytes in front; `announced`: the length that they tell. */
export function framed(message: Uint8Array, isCompressed = false, announced = message.length): Buffer {
  const head = Buffer.alloc(5);
  head[0] = isCompressed ? 1 : 0;
  head.writeUInt32BE(announced, 1);
  return Buffer.concat([head, message]);
}

/** Calls a method of the server at host:port with one message of any bytes. */
export function rawCall(
  address: string,
  path: string,
  headers: OutgoingHttpHeaders,
  message: Uint8Array = Buffer.alloc(0),
  isCompressed = false,
  announced = message.length,
): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const session = connect(`http://${address}`);
    session.on('error', reject);
    const fixed = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' };
    const stream = session.request({ ...fixed, ...headers });
    const received: IncomingHttpHeaders = {};
    const chunks: Buffer[] = [];
    const take = (some: IncomingHttpHeaders) => void Object.assign(received, some);
    stream.on('response', take);
    stream.on('trailers', take);
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', reject);
    stream.on('close', () => {
      session.close();
      resolve({
        status: received['grpc-status'] as string | undefined,
        headers: received,
        body: Buffer.concat(chunks),
      });
    });
    stream.end(framed(message, isCompressed, announced));
  });
}
