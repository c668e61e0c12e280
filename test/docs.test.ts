import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const documents = [
  ...['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md'],
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
];

/** The text without its code, in which brackets mean something else. */
function prose(text: string): string {
  return text.replace(/^```.*?^```/gms, '').replace(/`[^`\n]*`/g, '');
}

function relativeLinks(text: string): string[] {
  return [...prose(text).matchAll(/\]\(([^)\s]+)\)/g)]
    .map((match) => match[1] ?? '')
    .filter((target) => !/^[a-z]+:/.test(target));
}

/** The anchors that a page gives its headings, as GitHub makes them. */
function anchors(text: string): string[] {
  return [...prose(text).matchAll(/^#+ (.+)$/gm)].map((match) =>
    (match[1] ?? '')
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

/** What is wrong with a link, or undefined. */
function flawOf(document: string, target: string): string | undefined {
  const [path = '', anchor] = target.split('#');
  const file = path === '' ? document : relative(root, join(root, dirname(document), path));
  if (file.startsWith('..') || !existsSync(join(root, file))) return `${target}: there is no ${file}`;
  if (anchor === undefined || anchors(readFileSync(join(root, file), 'utf8')).includes(anchor)) return undefined;
  return `${target}: ${file} has no such heading`;
}

describe('the links of the documents', () => {
  it.each(documents)('of %s lead somewhere', (document) => {
    const links = relativeLinks(readFileSync(join(root, document), 'utf8'));
    expect(links.map((target) => flawOf(document, target)).filter(Boolean)).toEqual([]);
  });

  it('are found', () => {
    const [guide] = documents;
    expect(relativeLinks(readFileSync(join(root, guide ?? ''), 'utf8')).length).toBeGreaterThan(10);
  });
});

/** What the commands of a text name: files, by patterns too, and folders. */
function namedPaths(text: string): string[] {
  const commands = text.split('\n').filter((line) => /\b(protoc|python3|go run) /.test(line));
  const paths = /(?:-I |--python_out=|PYTHONPATH=)(\S+)|(\S+\.(?:proto|py|go))\b/g;
  return commands.flatMap((command) => [...command.matchAll(paths)].map(([, folder, file]) => folder ?? file ?? ''));
}

describe('the commands that run the examples', () => {
  it.each(['docs/clients.md', 'docs/examples/service.go', 'docs/examples/service.py'])(
    'in %s name what is there',
    (document) => {
      const paths = namedPaths(readFileSync(join(root, document), 'utf8'));
      expect(paths).not.toEqual([]);
      expect(paths.filter((path) => !existsSync(join(root, path.replace(/\*.*$/, ''))))).toEqual([]);
    },
  );
});
