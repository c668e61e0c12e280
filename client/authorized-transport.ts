import type { Transport } from '@connectrpc/connect';

/** A transport that sends the token with every call. */
export function authorized(transport: Transport, token: string): Transport {
  const add = (header: Parameters<Transport['unary']>[3]): Headers => {
    const headers = new Headers(header as Headers | undefined);
    headers.set('authorization', `Bearer ${token}`);
    return headers;
  };
  return {
    unary: (method, signal, timeoutMs, header, ...rest) =>
      transport.unary(method, signal, timeoutMs, add(header), ...rest),
    stream: (method, signal, timeoutMs, header, ...rest) =>
      transport.stream(method, signal, timeoutMs, add(header), ...rest),
  };
}
