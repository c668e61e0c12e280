import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { visible, visibleJson, visibleLines } from '../../web/src/i18n/visible-text.js';
import { registerExample, tokenCommand } from '../../web/src/tasks/register-example.js';

/** Written as numbers: nobody could read them otherwise. */
const text = (...codes: number[]) => String.fromCodePoint(...codes);
const range = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, index) => first + index);

/** Controls old and new, ends of lines, marks of direction, characters without width. */
const FORMLESS = [
  ...range(0, 0x1f),
  ...range(0x7f, 0x9f),
  ...[0xad, 0x34f, 0x61c, 0x115f, 0x180e, 0x3164, 0xfeff, 0xffa0, 0xe0001],
  ...range(0x200b, 0x200f),
  ...range(0x2028, 0x202e),
  ...range(0x2060, 0x206f),
  ...range(0xfff9, 0xfffb),
  ...range(0xd800, 0xdfff),
];

describe('a character without a form', () => {
  it.each([
    [0x00, '␀'],
    [0x09, '␉'],
    [0x0a, '␊'],
    [0x1b, '␛'],
    [0x1f, '␟'],
    [0x7f, '␡'],
    [0x80, '\\u0080'],
    [0x9b, '\\u009b'],
    [0x2028, '\\u2028'],
    [0x202e, '\\u202e'],
    [0x2066, '\\u2066'],
    [0x200b, '\\u200b'],
    [0xd800, '\\ud800'],
    [0xe0001, '\\u{e0001}'],
  ])('%i is shown as %s', (code, shown) => {
    expect(visible(`a${text(code)}b`)).toBe(`a${shown}b`);
  });

  it('is never left, whatever stands around it', () => {
    const any = fc.oneof(
      fc.constantFrom(...FORMLESS).map((code) => text(code)),
      fc.string({ unit: 'binary' }),
    );
    fc.assert(
      fc.property(fc.array(any), (parts) => {
        // Within an emoji, and behind a Han character, some are what makes it one.
        const shown = visible(parts.join('')).replace(
          /\p{ExtPict}[\p{VS}\p{EMod}\u200d]*|[0-9#*]\ufe0f\u20e3|\p{Ideographic}\p{VS}/gu,
          '',
        );
        expect(shown).not.toMatch(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{DI}\ufff9-\ufffb]/u);
      }),
      { numRuns: 2000 },
    );
    expect(FORMLESS.filter((code) => visible(text(code)) === text(code))).toEqual([]);
  });

  it('makes texts differ that would look the same', () => {
    const alike = ['admin', text(0x200b), text(0x202c), text(0xfeff), text(0xad), ''].map((mark) =>
      visible(`ad${mark}min`),
    );
    expect(new Set(alike).size).toBe(alike.length);
  });
});

describe('a text that has forms', () => {
  it.each([
    '',
    'job 1',
    '夜间导入 <b>',
    'naïve Ω Ελλάς עברית العربية ไทย',
    '👩🏽‍🚀 👨‍👩‍👧 ❤️ 1️⃣ 🇨🇳',
    text(0x845b, 0xe0100),
    'a\\u009b',
  ])('%j stays as it is', (kept) => {
    expect(visible(kept)).toBe(kept);
  });
});

it('a text of several lines keeps them, and shows where they end', () => {
  expect(visibleLines('one\r\ntwo\tthree')).toBe('one␍␊\ntwo␉three');
});

describe('JSON with a form for every character', () => {
  it('means the same, on lines of its own', () => {
    const value = fc.record({
      id: fc.string({ unit: 'binary' }),
      mark: fc.constantFrom(...FORMLESS).map((code) => text(code)),
    });
    fc.assert(
      fc.property(value, (written) => {
        const json = visibleJson(JSON.stringify(written, null, 2));
        expect(JSON.parse(json)).toEqual(written);
        expect(json.split('\n')).toHaveLength(4);
      }),
    );
    expect(visibleJson(JSON.stringify(text(0x9b, 0x2028, 0xe0001)))).toBe('"\\u009b\\u2028\\udb40\\udc01"');
  });

  it('is what the example to copy has', () => {
    expect(registerExample('http://taskdash.test', text(0x202e), text(0x9b))).toContain(
      '"user":"\\u202e","groupId":"\\u009b"',
    );
  });
});

describe('the command that makes a token', () => {
  it.each([
    ['mx', 'mx'],
    ['夜间 导入', "'夜间 导入'"],
    ["a'b; c", "'a'\\''b; c'"],
    ['', "''"],
    [text(0x202e), "'\\u202e'"],
  ])('names the group %j in a form that shells take and people read', (groupId, shown) => {
    expect(tokenCommand(groupId)).toBe(`npx taskdash token create example --group ${shown}`);
  });
});
