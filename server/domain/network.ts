/** Whose network an address is in, as far as counting attempts goes. */

const MAX_ADDRESS_LENGTH = 64;

/**
 * An IPv4 address itself, also where an IPv6 socket tells it as ::ffff:a.b.c.d; of an IPv6 address the first 64 bits,
 * because whoever has one address has all of its network (RFC 6177). Anything else is cut to 64 characters.
 */
export function networkOf(address: string): string {
  const [plain = ''] = address.split('%');
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(plain)?.[1];
  if (mapped !== undefined) return mapped;
  if (!/^[0-9a-f:.]*:[0-9a-f:.]*$/i.test(plain)) return plain.slice(0, MAX_ADDRESS_LENGTH);
  return `${groupsOf(plain).slice(0, 4).join(':')}::/64`;
}

/** The eight groups of an IPv6 address, without leading zeros. */
function groupsOf(address: string): string[] {
  const [head = '', tail] = address.replace(/\d+\.\d+\.\d+\.\d+$/, '0:0').split('::');
  const split = (part: string) => (part === '' ? [] : part.split(':'));
  const [before, after] = [split(head), split(tail ?? '')];
  const zeros = Array.from({ length: Math.max(0, 8 - before.length - after.length) }, () => '0');
  return [...before, ...zeros, ...after].map((group) => group.replace(/^0+(?=.)/, '').toLowerCase());
}
