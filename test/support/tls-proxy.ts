/** Something that speaks TLS in front of a door, as operators put it there; with a certificate made for this run. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A running proxy. */
export interface TlsProxy {
  /** https://localhost:port */
  readonly url: string;
  /** The certificate, which signed itself. */
  readonly ca: string;
  stop(): Promise<void>;
}

/** Starts a proxy for HTTP/2 in front of host:port. */
export async function startTlsProxy(target: string): Promise<TlsProxy> {
  const { key, cert } = await selfSigned();
  const { hostname, port } = new URL(`http://${target}`);
  const server = createServer({ key, cert, ALPNProtocols: ['h2'] }, (inward) => {
    const outward = connect(Number(port), hostname);
    inward.pipe(outward).pipe(inward);
    for (const [socket, other] of [
      [inward, outward],
      [outward, inward],
    ] as const) {
      socket.on('error', () => socket.destroy());
      socket.on('close', () => other.destroy());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `https://localhost:${(server.address() as AddressInfo).port}`,
    ca: cert,
    stop: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

/** A key and a certificate for localhost. */
export async function selfSigned(): Promise<{ key: string; cert: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'taskdash-tls-'));
  try {
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    const name = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
    const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
    await run('openssl', ['req', '-x509', ...kind, ...name, '-keyout', key, '-out', cert]);
    return { key: await readFile(key, 'utf8'), cert: await readFile(cert, 'utf8') };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
