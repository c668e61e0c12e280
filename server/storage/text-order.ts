/**
 * The order of texts in the database (collation "C": the bytes of UTF-8), for those who lock rows: whoever locks several
 * has to take them in one order everywhere, or two wait for each other.
 *
 * UTF-8 orders by code points, JavaScript's `<` by UTF-16 units. They differ only where a surrogate (a character beyond
 * U+FFFF) meets a unit above the surrogates.
 */

/** Negative, zero or positive, as `one` comes before, is, or comes after `other` in the database. */
export function compareTexts(one: string, other: string): number {
  const length = Math.min(one.length, other.length);
  for (let index = 0; index < length; index++) {
    const [unit, otherUnit] = [one.charCodeAt(index), other.charCodeAt(index)];
    if (unit !== otherUnit) return rankOf(unit) - rankOf(otherUnit);
  }
  return one.length - other.length;
}

/** Puts surrogates behind all other units. */
function rankOf(unit: number): number {
  return unit >= 0xd800 && unit < 0xe000 ? unit + 0x10000 : unit;
}
