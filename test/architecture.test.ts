import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));

/** A layer: where its files are, and what they may import (folders of ours, or packages). The first match counts. */
interface Layer {
  readonly name: string;
  readonly files: RegExp;
  readonly may: readonly RegExp[];
}

const generated = /^proto\/gen\//;
const LAYERS: readonly Layer[] = [
  { name: 'generated contracts', files: generated, may: [generated, /^@bufbuild\/protobuf/] },
  { name: 'domain', files: /^server\/domain\//, may: [/^server\/domain\//, /^node:crypto$/] },
  {
    name: 'storage',
    files: /^server\/storage\//,
    may: [/^server\/(domain|storage)\//, /^(typeorm|pg)(\/|$)/, /^node:/],
  },
  {
    name: 'identity',
    files: /^server\/identity\//,
    may: [/^server\/(domain|identity)\//, /^@node-rs\/argon2$/, /^@zxcvbn-ts\//, /^node:/],
  },
  {
    name: 'transports',
    files: /^server\/transports\//,
    may: [/^server\/(domain|transports)\//, generated, /^@(grpc|connectrpc|bufbuild)\//, /^node:/],
  },
  { name: 'wiring', files: /^server\/(cli\/)?[^/]+\.ts$/, may: [/^server\//, /^node:/, /^[a-z@]/] },
  { name: 'client', files: /^client\//, may: [/^client\//, generated, /^@(connectrpc|bufbuild)\//] },
  { name: 'page', files: /^web\/src\//, may: [/^web\/src\//, generated, /^(?!node:|\.)(?!server)[a-z@]/] },
];

function sourceFiles(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(ts|svelte)$/.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
}

/** What a file imports: packages by name, our own files by their path from the root. */
function importsOf(file: string): string[] {
  const source = readFileSync(join(root, file), 'utf8');
  const specifiers = [
    ...source.matchAll(
      /(?:^|\n)\s*(?:import|export)\s(?:[^'";]*?\sfrom\s+)?['"]([^'"]+)['"]|import\(\s*['"]([^'"]+)['"]\s*\)/g,
    ),
  ];
  return specifiers
    .map((match) => match[1] ?? match[2] ?? '')
    .map((specifier) => (specifier.startsWith('.') ? relative(root, join(root, dirname(file), specifier)) : specifier));
}

const files = ['server', 'client', 'web/src', 'proto/gen'].flatMap((folder) => {
  try {
    return sourceFiles(folder);
  } catch {
    return [];
  }
});

describe('the layers', () => {
  it('cover every source file', () => {
    expect(files.length).toBeGreaterThan(40);
    expect(files.filter((file) => !LAYERS.some((layer) => layer.files.test(file)))).toEqual([]);
  });

  it.each(LAYERS)('$name imports only what it may', (layer) => {
    const own = files.filter((file) => LAYERS.find((candidate) => candidate.files.test(file)) === layer);
    const wrong = own.flatMap((file) =>
      importsOf(file)
        .filter((target) => !layer.may.some((allowed) => allowed.test(target)))
        .map((target) => `${file} → ${target}`),
    );
    expect(wrong).toEqual([]);
  });

  it('are wired in one file alone: nothing else outside of storage imports storage', () => {
    const importers = files.filter(
      (file) =>
        !file.startsWith('server/storage/') && importsOf(file).some((target) => target.startsWith('server/storage/')),
    );
    expect(importers.filter((file) => !/^server\/(app\.ts$|database\.ts$|cli\/)/.test(file))).toEqual([]);
  });
});

describe('the domain', () => {
  it.each(files.filter((file) => file.startsWith('server/domain/')))(
    '%s reads no clock, timer or environment by itself',
    (file) => {
      if (file.endsWith('/clock.ts')) return;
      const source = readFileSync(join(root, file), 'utf8');
      expect(source).not.toMatch(
        /\bDate\.now\(|new Date\(\)|performance\.now\(|setTimeout\(|setInterval\(|setImmediate\(|process\.env/,
      );
    },
  );
});
