/** Errors and headers of Connect in the form of grpc-js. */
import { Metadata, type StatusObject } from '@grpc/grpc-js';
import type { ConnectError } from '@connectrpc/connect';
import { setTrailerStatus } from '@connectrpc/connect/protocol-grpc';

export const STATUS_DETAILS = 'grpc-status-details-bin';

/** Headers as grpc-js sends them. */
export function metadataOf(headers: Headers): Metadata {
  const metadata = new Metadata();
  headers.forEach((value, key) => metadata.add(key, key.endsWith('-bin') ? Buffer.from(value, 'base64') : value));
  return metadata;
}

/** Of errors that many calls end with at once. */
const statuses = new WeakMap<ConnectError, StatusObject & Error>();

/** A failure (Connect numbers its codes as gRPC does): code, sentence, and the details as google.rpc.Status. */
export function statusOf(error: ConnectError, responseTrailer?: Headers): StatusObject & Error {
  const known = responseTrailer ? undefined : statuses.get(error);
  if (known) return known;
  const status = makeStatus(error, responseTrailer ?? new Headers());
  if (!responseTrailer) statuses.set(error, status);
  return status;
}

function makeStatus(error: ConnectError, responseTrailer: Headers): StatusObject & Error {
  const trailer = new Headers();
  setTrailerStatus(trailer, error);
  const metadata = metadataOf(responseTrailer);
  const details = trailer.get(STATUS_DETAILS);
  if (details !== null) metadata.set(STATUS_DETAILS, Buffer.from(details, 'base64'));
  return {
    name: 'Error',
    message: error.rawMessage,
    code: error.code as number,
    details: error.rawMessage,
    metadata,
  };
}
