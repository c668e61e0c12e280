import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LocalizedStringDictionary, LocalizedStringFormatter } from '@internationalized/string';
import { parse } from 'svelte/compiler';
import { describe, expect, it } from 'vitest';
import { en } from '../../web/src/i18n/en.js';
import type { MessageKey } from '../../web/src/i18n/messages.js';
import { zh } from '../../web/src/i18n/zh.js';

const source = fileURLToPath(new URL('../../web/src', import.meta.url));
const files = readdirSync(source, { recursive: true, encoding: 'utf8' })
  .filter((name) => /\.(ts|svelte)$/.test(name) && !name.startsWith('i18n/en.') && !name.startsWith('i18n/zh.'))
  .map((name) => ({ name, content: readFileSync(join(source, name), 'utf8') }));
const keys = Object.keys(en) as MessageKey[];

/** A value for everything that a message may take. */
const VALUES = new Proxy(
  {},
  {
    get: (_target, name) =>
      /^(count|from|to|held|lost|of|sessions|tasks)$/.test(String(name)) ? 1234 : `<${String(name)}>`,
  },
);

function worded(catalogue: object, locale: string, key: MessageKey): string {
  const dictionary = new LocalizedStringDictionary({ [locale]: catalogue } as never, locale);
  return new LocalizedStringFormatter(locale, dictionary).format(key, VALUES);
}

describe('the two languages', () => {
  it('have the same messages', () => {
    expect(Object.keys(zh).sort()).toEqual([...keys].sort());
  });

  it.each(keys)('say %s, with the same values', (key) => {
    const valuesIn = (text: string) => [...text.matchAll(/<\w+>|1,234/g)].map(String).sort();
    const [english, chinese] = [worded(en, 'en', key), worded(zh, 'zh-CN', key)];
    expect(english).not.toBe('');
    expect(valuesIn(chinese)).toEqual(valuesIn(english));
  });

  it('are both written: Chinese is nowhere left in English', () => {
    const isLeft = (key: MessageKey) => !/\p{Script=Han}/u.test(worded(zh, 'zh-CN', key));
    const same = [
      'app.name',
      'app.language.other',
      'app.language.en',
      'column.id',
      'column.url',
      'list.more',
      'history.changed',
    ];
    expect(keys.filter(isLeft).sort()).toEqual(same.sort());
    expect(keys.filter((key) => /\p{Script=Han}/u.test(worded(en, 'en', key)))).toEqual([
      'app.language.other',
      'app.language.zh',
    ]);
  });

  it('count one and many', () => {
    const formatter = new LocalizedStringFormatter('en', new LocalizedStringDictionary({ en } as never, 'en'));
    expect(formatter.format('list.pending', { count: 1 })).toBe('1 change');
    expect(formatter.format('list.pending', { count: 1234 })).toBe('1,234 changes');
  });
});

describe('every message', () => {
  it('is used, and only known ones are', () => {
    const used = new Set<string>();
    const prefixes = new Set<string>();
    for (const { content } of files) {
      for (const [, key = ''] of content.matchAll(/['"`]([a-z]+(?:\.[A-Za-z_]+)+)['"`]/g)) used.add(key);
      for (const [, prefix = ''] of content.matchAll(/t\(`((?:[a-z]+\.)+)\$\{/g)) prefixes.add(prefix);
      for (const [, suffix = ''] of content.matchAll(/t\(`\$\{\w+\}(\.[a-z]+)`\)/g)) used.add(`*${suffix}`);
    }
    const isUsed = (key: string) =>
      used.has(key) ||
      [...prefixes].some((prefix) => key.startsWith(prefix)) ||
      [...used].some((suffix) => suffix.startsWith('*') && key.endsWith(suffix.slice(1)));
    expect(keys.filter((key) => !isUsed(key))).toEqual([]);
    const named = files.flatMap(({ content }) => [...content.matchAll(/\bt\('([^']+)'/g)].map((match) => match[1]));
    expect(named.length).toBeGreaterThan(100);
    expect(named.filter((key) => !keys.includes(key as MessageKey))).toEqual([]);
  });
});

/** Attributes that people read or hear, on elements and on our components. */
const SPOKEN =
  /^(aria-(label|description|placeholder|valuetext|roledescription)|title|alt|placeholder|label|hint|error|close|done|failed)$/;

interface Node {
  readonly type: string;
  readonly name?: string;
  readonly data?: string;
  readonly value?: unknown;
}

/** The texts of a template that a viewer would read, code aside. */
function textsOf(node: unknown): string[] {
  if (Array.isArray(node)) return node.flatMap(textsOf);
  if (typeof node !== 'object' || node === null) return [];
  const { type, name = '', data = '', value } = node as Node;
  if (name === 'code' || name === 'style' || name === 'kbd') return [];
  if (type === 'Text') return [data];
  if (type === 'Attribute') return SPOKEN.test(name) ? textsOf(value) : [];
  return Object.values(node).flatMap(textsOf);
}

describe('no text escapes the catalogues', () => {
  const components = files.filter(({ name }) => name.endsWith('.svelte'));

  it('looks at every component', () => {
    expect(components.length).toBeGreaterThan(30);
    const probe = parse('<p title="Hover me">Read {me}</p><code>not me</code>', { modern: true });
    expect(textsOf(probe.fragment)).toEqual(['Hover me', 'Read ']);
  });

  it.each(components)('$name', ({ content }) => {
    const texts = textsOf(parse(content, { modern: true }).fragment);
    expect(texts.filter((text) => /\p{Letter}/u.test(text))).toEqual([]);
  });
});
