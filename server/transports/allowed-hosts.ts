/**
 * For which hosts the HTTP door answers. A page of another site can let its own name lead to this server (DNS rebinding), and
 * would then be taken by browsers for this server's page. So only names that lead here by their owners' will are answered:
 * those of this machine itself, what the door listens on, and what the operator says. Addresses are nobody's name: where the
 * door listens on all of the machine's, any is answered. An address counts however it is written: "::0" as "::", "0" as "0.0.0.0".
 */
import { hostname } from 'node:os';
import { isIP } from 'node:net';
import { systemSpelling } from './client-address.js';

const ALL_ADDRESSES = ['0.0.0.0', '::'];

/** Says whether a Host header names this server, whatever its port. */
export type HostCheck = (host: string) => boolean;

/** `listensOn`: the address or name that was set; `publicUrls`: by which people reach the server. */
export function allowedHosts(listensOn: string, publicUrls: readonly string[]): HostCheck {
  const listensOnAll = ALL_ADDRESSES.includes(plainHost(listensOn));
  const names = new Set([listensOn, ...publicUrls.map((url) => new URL(url).hostname)].map(plainHost));
  if (listensOnAll) names.add(plainHost(hostname()));
  return (header) => {
    const named = hostIn(header);
    if (named === undefined) return false;
    const host = plainHost(named);
    return names.has(host) || isLoopback(host) || (listensOnAll && isIP(host) !== 0);
  };
}

/** A name, or an address, and behind it perhaps a port. */
const HOST = /^(?:\[(?<address>[0-9a-f:.]+)\]|(?<name>[a-z\d_-]+(?:\.[a-z\d_-]+)*\.?))(?::(?<port>\d*))?$/i;
const MAX_PORT = 65_535;

/**
 * The host that a header names; undefined where it is anything else or more than that: "evil.example/.localhost" is one host for
 * who reads its end, and another one for who reads a URL.
 */
function hostIn(header: string): string | undefined {
  const { address, name, port } = HOST.exec(header)?.groups ?? {};
  if (Number(port ?? 0) > MAX_PORT) return undefined;
  return address === undefined || isIP(address) === 6 ? (address ?? name) : undefined;
}

/** A name in lower case without the dot of the root; an address without brackets, in the spelling of the system. */
function plainHost(host: string): string {
  const plain = host.toLowerCase().replace(/\.$/, '');
  const bare = plain.startsWith('[') ? plain.slice(1, -1) : plain;
  return systemSpelling(bare) ?? withoutShortCuts(bare);
}

/** "127.1" and "0x7f000001" are addresses, too, for systems and URLs: 127.0.0.1. */
function withoutShortCuts(host: string): string {
  const url = `http://${host}`;
  return /^[0-9a-fx.]+$/.test(host) && URL.canParse(url) ? new URL(url).hostname : host;
}

function isLoopback(host: string): boolean {
  if (host === 'localhost' || host.endsWith('.localhost') || host === '::1') return true;
  return isIP(host) === 4 && host.startsWith('127.');
}
