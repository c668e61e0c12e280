/** A reverse proxy that buffers: it passes an answer on when that has ended, which a stream does not. */
import { createServer, request, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';

/** A running proxy. */
export interface HoldingProxy {
  /** Where the browser connects to, as a URL. */
  readonly url: string;
  /** How many answers have begun to arrive and are not passed on. */
  readonly held: number;
  /** From now on answers are passed on as they come. */
  passOn(): void;
  /** From now on answers are held until they end. */
  hold(): void;
  stop(): Promise<void>;
}

/** Starts a proxy in front of an http:// URL. */
export async function startHoldingProxy(target: string): Promise<HoldingProxy> {
  const { hostname, port } = new URL(target);
  let isHolding = true;
  let held = 0;
  const server = createServer((asked, answered) => {
    const { method, url: path, headers } = asked;
    const onward = request({ hostname, port, method, path, headers }, (answer) => {
      void (isHolding ? passWhole(answer, answered) : passParts(answer, answered));
    });
    onward.on('error', () => answered.destroy());
    answered.on('close', () => onward.destroy());
    asked.pipe(onward);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));

  async function passWhole(answer: IncomingMessage, answered: ServerResponse): Promise<void> {
    held += 1;
    try {
      const body = await buffer(answer);
      answered.writeHead(answer.statusCode ?? 502, answer.headers).end(body);
    } catch {
      answered.destroy();
    } finally {
      held -= 1;
    }
  }

  function passParts(answer: IncomingMessage, answered: ServerResponse): void {
    answered.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.on('error', () => answered.destroy());
    answer.pipe(answered);
  }

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get held() {
      return held;
    },
    passOn() {
      isHolding = false;
    },
    hold() {
      isHolding = true;
    },
    stop() {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
