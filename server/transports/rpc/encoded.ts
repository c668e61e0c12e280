/** Messages whose bytes somebody has at hand, for doors that send bytes: the same change goes to a thousand watchers. */
const known = new WeakMap<object, () => Buffer>();

/** The message, with the way to its bytes. They must be the encoding of the message. */
export function withBytes<T extends object>(message: T, bytes: () => Buffer): T {
  known.set(message, bytes);
  return message;
}

/** The bytes of a message, where they are at hand. */
export function bytesAtHand(message: object): Buffer | undefined {
  return known.get(message)?.();
}
