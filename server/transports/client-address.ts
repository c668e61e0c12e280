/** The addresses of clients: in one spelling, and which of them may connect. */
import { BlockList, isIP } from 'node:net';

/** An address as the system tells it, without the prefix that IPv4 wears on an IPv6 socket. */
export function plainAddress(address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address;
}

/**
 * The address of a client behind proxies: each appends the address that it was asked from to X-Forwarded-For, so the last
 * one that is no proxy of ours is as true as our proxies are. What a stranger claims is never believed.
 */
export function forwardedAddress(
  peer: string,
  forwardedFor: string | undefined,
  isProxy: (address: string) => boolean,
): string {
  const claimed = forwardedFor?.split(',').map((hop) => hop.trim()) ?? [];
  const hops = [...claimed, peer].filter((hop) => hop !== '').map(plainAddress);
  return hops.findLast((hop) => !isProxy(hop)) ?? hops[0] ?? '';
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

function addTo(list: BlockList, entry: string): void {
  const [address = '', bits, ...rest] = entry.split('/');
  const version = isIP(address);
  const longest = version === 6 ? 128 : 32;
  const prefix = bits === undefined ? longest : Number(bits);
  if (version === 0 || rest.length > 0 || bits === '' || !Number.isInteger(prefix) || prefix < 0 || prefix > longest) {
    throw new Error(`${JSON.stringify(entry)} is neither an address nor a range such as 10.0.0.0/8 or fc00::/7.`);
  }
  list.addSubnet(address, prefix, version === 6 ? 'ipv6' : 'ipv4');
}
