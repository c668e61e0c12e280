/**
 * Texts from outside as people read them. What has no form of its own – control characters, marks that turn the direction of
 * the text around, characters without width – gets one: else two ids that differ look the same, and one text can pose as
 * another. Everything stored that a page shows goes through here; what is copied, linked and searched is the real text.
 */

/** An emoji may be several, held together by a character without width, each in a form or colour that another one chooses. */
const EMOJI = /\p{ExtPict}(?:\ufe0e|\ufe0f|\p{EMod})?(?:\u200d\p{ExtPict}(?:\ufe0e|\ufe0f|\p{EMod})?)*/u;
/** A digit or sign on a key. */
const KEYCAP = /[0-9#*]\ufe0f\u20e3/u;
/** A Han character may be followed by the choice of one of its forms. */
const HAN = /\p{Ideographic}\p{VS}/u;
/** Controls, halves of characters, ends of lines and paragraphs, all that Unicode says may be ignored, and notes between lines. */
const FORMLESS = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{DI}\u{fff9}-\u{fffb}]/u;

const KEPT_OR_FORMLESS = new RegExp(`(${EMOJI.source}|${KEYCAP.source}|${HAN.source})|${FORMLESS.source}`, 'gu');

/** A stored text with a form for every character: "a␛[31m", "a\u202eb". */
export function visible(text: string): string {
  if (!FORMLESS.test(text)) return text;
  return text.replace(KEPT_OR_FORMLESS, (found, kept?: string) => kept ?? formOf(found));
}

/** The same for a text of several lines, which stay lines. */
export function visibleLines(text: string): string {
  return visible(text).replaceAll(formOf('\n'), `${formOf('\n')}\n`);
}

/** JSON of the same meaning in which every character has a form; the line ends between its parts stay. */
export function visibleJson(json: string): string {
  return json.replace(
    KEPT_OR_FORMLESS,
    (found, kept?: string) => kept ?? (found === '\n' ? found : escapeUnits(found)),
  );
}

/** Unicode has pictures of the oldest controls; all others are named by their number. */
function formOf(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  if (code === 0x7f) return '\u2421';
  return code > 0xffff ? `\\u{${code.toString(16)}}` : escapeUnits(character);
}

function escapeUnits(character: string): string {
  return Array.from({ length: character.length }, (_, index) => {
    return `\\u${character.charCodeAt(index).toString(16).padStart(4, '0')}`;
  }).join('');
}
