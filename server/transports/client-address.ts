/** The addresses of clients: in one spelling, and which of them may connect. */
import { BlockList, isIP, SocketAddress } from 'node:net';

/** An address as the system tells it, without the prefix that IPv4 wears on an IPv6 socket. */
export function plainAddress(address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address;
}

/**
 * The address of a client behind proxies: each appends the address that it was asked from to X-Forwarded-For, so the last
 * one that is no proxy of ours is as true as our proxies are. What a stranger claims is never believed. A proxy that tells
 * no address stands for whoever asks through it: what is written before that, anybody may have written.
 */
export function forwardedAddress(
  peer: string,
  forwardedFor: string | undefined,
  isProxy: (address: string) => boolean,
): string {
  const hops = forwardedFor?.split(',') ?? [];
  let address = plainAddress(peer);
  while (isProxy(address)) {
    const told = addressIn(hops.pop()?.trim() ?? '');
    if (told === undefined) break;
    address = told;
  }
  return address;
}

/**
 * The address that a hop tells: some proxies tell the port too, which is another one for each connection, and a zone means
 * nothing here. undefined: it is no address.
 */
function addressIn(hop: string): string | undefined {
  const host = /^\[([^\]]*)\](?::\d*)?$/.exec(hop)?.[1] ?? /^([^:]*):\d*$/.exec(hop)?.[1] ?? hop;
  return systemSpelling(host);
}

/** An address without its zone, in the one spelling that the system has for it; undefined: it is none. */
export function systemSpelling(text: string): string | undefined {
  const [address = ''] = text.split('%');
  const version = isIP(address);
  if (version === 0) return undefined;
  return plainAddress(new SocketAddress({ address, family: version === 6 ? 'ipv6' : 'ipv4' }).address);
}

/**
 * Whether an address may connect, by a list of addresses and CIDR ranges; an empty list allows all. Throws an Error that
 * names the entry which is neither.
 */
export function allowOnly(entries: readonly string[]): (address: string) => boolean {
  if (entries.length === 0) return () => true;
  const list = new BlockList();
  for (const entry of entries) addTo(list, entry);
  return (address) => {
    const [plain = ''] = address.split('%');
    return isIP(plain) !== 0 && list.check(plain, isIP(plain) === 6 ? 'ipv6' : 'ipv4');
  };
}

/** Whether `allowOnly` takes an entry. */
export function isAddressOrRange(entry: string): boolean {
  return rangeIn(entry) !== undefined;
}

function addTo(list: BlockList, entry: string): void {
  const range = rangeIn(entry);
  if (!range)
    throw new Error(`${JSON.stringify(entry)} is neither an address nor a range such as 10.0.0.0/8 or fc00::/7.`);
  list.addSubnet(...range);
}

function rangeIn(entry: string): [address: string, prefix: number, family: 'ipv4' | 'ipv6'] | undefined {
  const [address = '', bits, ...rest] = entry.split('/');
  const version = isIP(address);
  const longest = version === 6 ? 128 : 32;
  const prefix = bits === undefined ? longest : Number(bits);
  const isPrefix = bits !== '' && Number.isInteger(prefix) && prefix >= 0 && prefix <= longest;
  if (version === 0 || rest.length > 0 || !isPrefix) return undefined;
  return [address, prefix, version === 6 ? 'ipv6' : 'ipv4'];
}
