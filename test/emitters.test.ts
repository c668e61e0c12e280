/**
 * An `error` event that nobody listens to ends the process. Here stand all places in which the server makes something that
 * emits events, found by the types, each with what hears its errors; what is new is to be added, with its listener.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));

/** File and maker, and the words of that file that hear its errors, or why there are none. */
const HEARD: Readonly<Record<string, RegExp | 'no input or output' | 'ends with its command'>> = {
  'server/storage/embedded/run-command.ts: spawn': /child\.on\('error'/,
  'server/storage/embedded/launcher.ts: createServer': /probe\.once\('error', reject\)/,
  'server/doors.ts: createServer': /server\.on\('error'/,
  'server/storage/notification-listener.ts: pg.Client': /client\.on\('error'/,
  // The pool itself: its listener is the option poolErrorHandler; its connections are ListenedClients.
  'server/storage/postgres.ts: poolOf': /master: Pool/,
  'server/transports/connect-server.ts: createListener': /this\.#server\.on\('error'/,
  'server/transports/connect-server.ts: createServer': /this\.#server\.on\('error'/,
  'server/transports/connect-server.ts: createTlsServer': /this\.#server\.on\('error'/,
  'server/transports/grpc-server.ts: createServer': /this\.#listener\.on\('error'/,
  'server/transports/grpc-server.ts: floods.socketOf': /socket\.on\('error'/,
  'server/transports/tcpx/server.ts: createServer': /this\.#server\.on\('error'/,
  'server/logging.ts: pino': /\.on\('error', \(\) => \{\}\)/,
  'server/logging.ts: pino.destination': /\.on\('error', \(\) => \{\}\)/,
  'server/logging.ts: pretty': /\.on\('error', \(\) => \{\}\)/,
  'server/serve.ts: createLog': /process\.stdout/,
  'server/domain/secrets.ts: createHash': 'no input or output',
  'server/domain/token-sealer.ts: createHmac': 'no input or output',
  'server/transports/static-files.ts: createHash': 'no input or output',
  'server/cli/with-storage.ts: createLog': 'ends with its command',
  'server/cli/task-watch.ts: createLog': 'ends with its command',
  'server/cli/identity-commands.ts: Writable': 'ends with its command',
  'server/cli/identity-commands.ts: createInterface': 'ends with its command',
  'server/cli/database-commands.ts: connect': 'ends with its command',
};

/** What comes in as an argument, already made. */
const RECEIVED: Readonly<Record<string, RegExp>> = {
  'server/transports/tcpx/connection.ts': /socket\.on\('error'/,
  'server/transports/tcpx/server.ts': /socket\.on\('error'/,
  'server/transports/grpc-server.ts': /socket\.on\('error'/,
  'server/storage/data-source.ts': /this\.on\('error', \(\) => \{\}\)[\s\S]*poolErrorHandler/,
};

function textOf(file: string): string {
  return readFileSync(join(root, file), 'utf8');
}

/** Every place that makes an emitter, as `file: maker`. */
function makers(): string[] {
  const { fileNames, options } = ts.parseJsonConfigFileContent(
    ts.readConfigFile(join(root, 'tsconfig.json'), (path) => ts.sys.readFile(path)).config,
    ts.sys,
    root,
  );
  const own = fileNames.filter((name) => name.startsWith(join(root, 'server/')));
  const program = ts.createProgram(own, options);
  const checker = program.getTypeChecker();

  function isEmitter(type: ts.Type, seen = new Set<ts.Type>()): boolean {
    if (seen.has(type)) return false;
    seen.add(type);
    if (type.symbol?.name === 'EventEmitter') return true;
    if (type.isUnionOrIntersection()) return type.types.some((part) => isEmitter(part, seen));
    const target = (type as ts.TypeReference).target ?? type;
    return target.isClassOrInterface() && checker.getBaseTypes(target).some((base) => isEmitter(base, seen));
  }

  const found = new Set<string>();
  function visit(node: ts.Node, file: string): void {
    if (ts.isNewExpression(node) || ts.isCallExpression(node)) {
      const { expression } = node;
      // A method of an emitter that answers with an emitter answers with itself.
      const isOwnMethod =
        ts.isPropertyAccessExpression(expression) && isEmitter(checker.getTypeAtLocation(expression.expression));
      if (!isOwnMethod && isEmitter(checker.getTypeAtLocation(node))) found.add(`${file}: ${expression.getText()}`);
    }
    ts.forEachChild(node, (child) => visit(child, file));
  }
  for (const name of own) {
    const source = program.getSourceFile(name);
    if (source) visit(source, name.slice(root.length));
  }
  return [...found].filter((place) => !/: (socket|child|probe|call|response|process)[.?]/.test(place)).sort();
}

describe('whatever emits events', () => {
  // The types of everything that the server imports are read for it.
  it('is listed here', { timeout: 180_000 }, () => {
    expect(makers()).toEqual(Object.keys(HEARD).sort());
  });

  it.each(Object.entries({ ...HEARD, ...RECEIVED }))('has its errors heard: %s', (place, heard) => {
    if (typeof heard === 'string') return;
    expect(textOf(place.split(':')[0] ?? '')).toMatch(heard);
  });
});
