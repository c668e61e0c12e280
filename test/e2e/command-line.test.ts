import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestApp, TEST_PASSWORD, type TestApp } from '../support/app.js';
import { AuthService } from '../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { createTestDatabase } from '../support/database.js';
import { TcpxClient } from '../support/tcpx-client.js';

const run = promisify(execFile);
let app: TestApp;

beforeAll(async () => {
  app = await startTestApp();
});
afterAll(() => app.stop());

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Old and new controls, texts that are turned around, one without width, and ends of lines. */
const ODD = [0x1b, 0x0a, 0x7f, 0x9b, 0x202e, 0x2066, 0x200b, 0x2028].map((code) => String.fromCodePoint(code)).join('');
const ODD_PRINTED = '␛␊␡\\u009b\\u202e\\u2066\\u200b\\u2028';
const TURNED = String.fromCodePoint(0x202e);
const OBEYED = /[\p{Cc}\p{Zl}\p{Zp}\p{DI}]/u;

/** Runs a line of a shell with these arguments, on the database of the app. */
async function taskdashInShell(line: string, args: readonly string[]): Promise<Outcome> {
  const env = { ...process.env, TASKDASH_DATABASE_URL: app.database.url };
  try {
    return { code: 0, ...(await run('/bin/sh', ['-c', line, 'sh', ...args], { env })) };
  } catch (failure) {
    const { code, stdout, stderr } = failure as Outcome;
    return { code, stdout, stderr };
  }
}

/** Runs `taskdash` with these arguments on the database of the app. */
async function taskdash(args: readonly string[], input?: string): Promise<Outcome> {
  const env = { ...process.env, TASKDASH_DATABASE_URL: app.database.url };
  const running = run(process.execPath, ['dist/server/main.js', ...args], { env });
  running.child.stdin?.end(input ?? '');
  try {
    return { code: 0, ...(await running) };
  } catch (failure) {
    const { code, stdout, stderr } = failure as Outcome;
    return { code, stdout, stderr };
  }
}

describe('the command line', () => {
  it('adds a user who can log in, replaces what they may do, and sets a new password', async () => {
    const login = (password: string) => app.client(AuthService, 'http').login({ username: 'cli', password });
    expect(
      await taskdash(['user', 'add', 'cli', '--group', 'mx:member', '--name', 'C'], `${TEST_PASSWORD}\n`),
    ).toMatchObject({ code: 0 });
    expect((await login(TEST_PASSWORD)).user?.memberships).toHaveLength(1);
    const groups = ['--group', 'mx:viewer', '--group', 'b:manager', '--group', 'mx:viewer', '--name', 'C'];
    const changed =
      'User "cli" was there already and is changed: a new password; groups mx:member → b:manager, mx:viewer. ' +
      'Their sessions are ended.\n';
    expect(await taskdash(['user', 'add', ...groups, 'cli'], `${TEST_PASSWORD}\n`)).toMatchObject({ stdout: changed });
    expect((await login(TEST_PASSWORD)).user?.memberships).toHaveLength(2);
    expect((await taskdash(['user', 'add', 'cli', '--administrator'], `${TEST_PASSWORD}\n`)).stdout).toContain(
      'a new password; administrator no → yes; groups b:manager, mx:viewer → none. Their',
    );
    const made = await taskdash(['user', 'set-password', 'cli', '--generate']);
    const password = /^Password: (\S+) \(shown only now\)$/m.exec(made.stderr)?.[1] ?? '';
    expect((await login(password)).user?.id).toBe('cli');
    const set = await taskdash(['user', 'set-password', 'cli'], 'another good one\n');
    expect(set).toMatchObject({ code: 0 });
    expect(set.stdout).toBe('The password of "cli" is set; their sessions are ended. Its strength: strong (4 of 4).\n');
    await expect(login(password)).rejects.toThrow('unauthenticated');
    expect((await login('another good one')).user?.displayName).toBe('C');
  });

  it('makes a token that works, and prints its secret alone on standard output', async () => {
    const { stdout } = await taskdash(['token', 'create', 'ci', '--group', 'mx', '--scope', 'register']);
    expect(stdout).toMatch(/^tdt_[\w-]{43}\n$/);
    await app.client(TaskService, 'grpc', stdout.trim()).registerTask({ task: { id: 'by-token', groupId: 'mx' } });
    const long = await taskdash(['token', 'create', 'ci', '--group', 'mx', '--expires', '100y']);
    expect(long.stdout).toMatch(/^tdt_[\w-]{43}\n$/);
  });

  it('lists tasks and sessions as a table or as JSON', async () => {
    const service = await TcpxClient.connect(app.tcp);
    await service.register({ id: 'listed', name: 'red \u001b[31m', group_id: 'cli' });
    const table = await taskdash(['tasks', 'list', '--group', 'cli']);
    expect(table.stdout.split('\n')[1]).toMatch(/^listed +red ␛\[31m +cli +running$/);
    const json = await taskdash(['tasks', 'list', '--group', 'cli', '--json']);
    expect(JSON.parse(json.stdout)).toMatchObject({ id: 'listed', status: 'running' });
    await expect
      .poll(async () => (await taskdash(['sessions', 'list'])).stdout, { timeout: 20_000 })
      .toMatch(/ tcp +127\.0\.0\.1 /);
    service.socket.destroy();
  });

  it('is quiet when its reader leaves, and a watch ends', async () => {
    const client = await TcpxClient.connect(app.tcp);
    for (let n = 0; n < 200; n++)
      await client.register({ id: `piped-${n}`, group_id: 'mx', description: 'x'.repeat(500) });
    const env = { ...process.env, TASKDASH_DATABASE_URL: app.database.url };
    for (const args of [['list', '--json', '--limit', '1000'], ['watch']]) {
      const child = spawn(process.execPath, ['dist/server/main.js', 'tasks', ...args], { env });
      let complaints = '';
      child.stderr.on('data', (chunk: Buffer) => (complaints += chunk.toString()));
      child.stdout.destroy();
      const exited = once(child, 'exit');
      const changing = setInterval(() => void client.register({ id: 'piped', group_id: 'mx' }), 200);
      expect([await exited, complaints]).toEqual([[0, null], '']);
      clearInterval(changing);
    }
    await client.close();
  });

  it('says in one line that its output cannot be written, and fails', async () => {
    const service = await TcpxClient.connect(app.tcp);
    await service.register({ id: 'unprinted', group_id: 'mx' });
    await service.close();
    const full = 'taskdash: The output could not be written: ENOSPC: no space left on device';
    const commands = [
      ['tasks', 'list'],
      ['tasks', 'list', '--json'],
      ['token', 'create', 'x', '--group', 'mx'],
      ['doctor'],
      ['--help'],
    ];
    for (const args of commands) {
      const { code, stderr } = await taskdashInShell('node dist/server/main.js "$@" > /dev/full', args);
      expect(stderr.split('\n').filter((line) => !/^Database: |^This secret /.test(line))).toEqual([
        expect.stringMatching(new RegExp(`^${full}`)),
        '',
      ]);
      expect(code).toBe(1);
    }
    expect(await taskdashInShell('node dist/server/main.js "$@" 2> /dev/full', ['nonsense'])).toMatchObject({
      code: 2,
    });
  });

  it('refuses what is not valid UTF-8, in one line', async () => {
    const piped = (bytes: string) =>
      taskdashInShell(`printf '${bytes}' | node dist/server/main.js "$@"`, ['user', 'set-password', 'admin']);
    const refusal = 'taskdash: The password is not valid UTF-8: pipe it in in that encoding, or type it.\n';
    expect(await piped('caf\\351 caf\\351 caf\\351\\n')).toEqual({ code: 2, stdout: '', stderr: refusal });
    expect(await piped('caf\\303\\251 au lait rond\\r\\n\\377')).toMatchObject({ code: 0 });
    const argument = (place: string) => taskdashInShell(`node dist/server/main.js ${place}`, []);
    for (const place of [
      `user add "$(printf 'ren\\351')" --generate`,
      `user add rene --generate --name "$(printf 'Ren\\351')"`,
      `token create x --group "$(printf 'm\\377')"`,
    ])
      expect(await argument(place)).toEqual({
        code: 2,
        stdout: '',
        stderr: expect.stringMatching(
          /^taskdash: The argument ".*\ufffd" is not valid UTF-8 where it shows .*\n$/,
        ) as string,
      });
    const setting = await taskdashInShell(
      `TASKDASH_ADMIN_PASSWORD="$(printf 'caf\\351 caf\\351')" node dist/server/main.js serve`,
      [],
    );
    expect(setting.stderr).toBe('taskdash: TASKDASH_ADMIN_PASSWORD: the value given is not valid UTF-8.\n');
  });

  it('says on standard error which database it writes to, without a password', async () => {
    const { host } = new URL(app.database.url);
    const line = `Database: "${app.database.name}" at ${host}\n`;
    for (const args of [
      ['user', 'add', 'told', '--generate'],
      ['user', 'set-password', 'told', '--generate'],
      ['token', 'create', 'told', '--group', 'mx'],
      ['migrate'],
    ])
      expect((await taskdash(args)).stderr.startsWith(line)).toBe(true);
    expect((await taskdash(['tasks', 'list', '--limit', '1'])).stderr).toBe('');
  });

  it('keeps its columns below each other, whatever is in them', async () => {
    const service = await TcpxClient.connect(app.tcp);
    const long = '渲'.repeat(60);
    const widths = {
      plain: 5,
      渲染任务: 8,
      'cafe\u0301': 4,
      '🚀 los': 6,
      ｗｉｄｅ: 8,
      '☀\ufe0f': 2,
      한국어: 6,
      [long]: 40,
    };
    for (const name of Object.keys(widths))
      await service.register({ id: name, name, user: 'somebody', group_id: 'wide' });
    await service.close();
    const { stdout } = await taskdash(['tasks', 'list', '--group', 'wide']);
    for (const [name, width] of Object.entries(widths)) {
      const cell = (name === long ? long.slice(0, 20) : name) + ' '.repeat(40 - width);
      expect(stdout).toContain(`${cell}  ${cell}  somebody  `);
    }
  });

  it('prints no stored text that a terminal would obey, in lists and in JSON', async () => {
    const service = await TcpxClient.connect(app.tcp);
    const record = { id: `odd${ODD}`, name: `n${ODD}`, user: `u${ODD}`, url: `l${ODD}`, description: `d${ODD}` };
    await service.register({ ...record, group_id: 'odd', status: `s${ODD}`, start_time: ODD, stop_time: ODD });
    const table = await taskdash(['tasks', 'list', '--group', 'odd']);
    expect(table.stdout).toContain(`odd${ODD_PRINTED}`);
    const json = await taskdash(['tasks', 'list', '--group', 'odd', '--json']);
    expect(JSON.parse(json.stdout)).toMatchObject(record);
    for (const { stdout } of [table, json]) expect(stdout.replaceAll('\n', '')).not.toMatch(OBEYED);
    service.socket.destroy();
  });

  it('prints no name that a terminal would obey, where it sets passwords and makes tokens', async () => {
    const user = `turned${TURNED}`;
    const before = { id: user, displayName: user, administrator: false, memberships: new Map(), passwordHash: '' };
    await app.storage.identity.saveUser({ ...before, disabled: false, mustChangePassword: false });
    const outcomes = [
      await taskdash(['user', 'set-password', user, '--generate']),
      await taskdash(['token', 'create', user, '--group', 'mx']),
      await taskdash(['user', 'set-password', `nobody${ODD}`, '--generate']),
    ];
    expect(outcomes.map(({ code }) => code)).toEqual([0, 1, 1]);
    for (const { stdout, stderr } of outcomes) expect((stdout + stderr).replaceAll('\n', '')).not.toMatch(OBEYED);
    expect(outcomes[0]?.stdout).toContain('"turned\\u202e"');
  });

  it('prints changes while it watches, and ends well when it is interrupted', async () => {
    const env = { ...process.env, TASKDASH_DATABASE_URL: app.database.url };
    const child = spawn(process.execPath, ['dist/server/main.js', 'tasks', 'watch'], { env });
    let printed = '';
    child.stdout.on('data', (chunk: Buffer) => (printed += chunk.toString()));
    const service = await TcpxClient.connect(app.tcp);
    let n = 0;
    await expect
      .poll(
        async () => {
          await service.register({ id: `watched-${n++}`, group_id: 'mx' });
          await service.register({ id: `turned-${n}${ODD}`, group_id: 'mx', status: ODD });
          return printed;
        },
        { timeout: 20_000, interval: 200 },
      )
      // The watch may have begun between the two.
      .toMatch(/registered +watched-\d+ +- → running +service:127\.0\.0\.1[^]*turned-\d+␛␊/);
    child.kill('SIGINT');
    expect(await once(child, 'exit')).toEqual([0, null]);
    expect(printed.replaceAll('\n', '')).not.toMatch(OBEYED);
    service.socket.destroy();
  });

  it('says when the history no longer has the place of a watch, and goes on', async () => {
    const env = { ...process.env, TASKDASH_DATABASE_URL: app.database.url };
    const child = spawn(process.execPath, ['dist/server/main.js', 'tasks', 'watch', '--json'], { env });
    let [changes, said] = ['', ''];
    child.stdout.on('data', (chunk: Buffer) => (changes += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    const service = await TcpxClient.connect(app.tcp);
    const register = (id: string) => service.register({ id, group_id: 'mx' }).then(() => changes);
    let n = 0;
    await expect.poll(() => register(`before-${n++}`), { timeout: 20_000 }).toContain('"before-');
    await app.storage.postgres.adHocRows('DELETE FROM task_event', []);
    await expect.poll(() => said, { timeout: 20_000 }).toMatch(/^Changes may have been missed: .* on from now\.\n$/);
    await expect.poll(() => register(`after-${n++}`), { timeout: 20_000 }).toContain('"after-');
    child.kill('SIGTERM');
    expect(await once(child, 'exit')).toEqual([0, null]);
    service.socket.destroy();
  });

  it.each([
    [
      ['serve', '--http-port', 'x'],
      'taskdash: --http-port: "x" is not allowed; it must be a whole number from 0 to 65535.\n',
    ],
    [
      ['user', 'add', 'x', '--group', 'mx:king'],
      'taskdash: --group: "mx:king" is not allowed; it must be group:role with the role member, viewer, manager.\n',
    ],
    [
      ['user', 'add', 'x', '--group', 'mx:member', '--group', 'mx:viewer', '--generate'],
      'taskdash: --group: "mx:member" and "mx:viewer" contradict each other; a user has one role in a group.\n',
    ],
    [
      ['user', 'add', 'x', '--group', 'mx:viewer', 'mx:member'],
      "taskdash: too many arguments for 'add'. Expected 1 argument but got 2.\n",
    ],
    [
      ['token', 'create', 'x', '--group', 'mx', '--scope', 'read', 'register'],
      "taskdash: too many arguments for 'create'. Expected 1 argument but got 2.\n",
    ],
    [
      ['tasks', 'list', '--status', 'running', 'finish'],
      "taskdash: too many arguments for 'list'. Expected 0 arguments but got 1.\n",
    ],
    [
      ['tasks', 'list', '--limit', '0'],
      'taskdash: --limit: "0" is not allowed; it must be a whole number from 1 to 10000.\n',
    ],
    ...['300000y', '101y', '0d', '1e400s', `${'9'.repeat(120)}s`].map((life): [string[], string] => [
      ['token', 'create', 'x', '--group', 'mx', '--expires', life],
      `taskdash: --expires: "${life}" is not allowed; it must be a duration from 1s to 100y, such as 12h, 90d or 1y. ` +
        'Without it the token never ends.\n',
    ]),
    [['serve', '--nonsense'], "taskdash: unknown option '--nonsense'\n"],
    [['nonsense'], "taskdash: unknown command 'nonsense'\n"],
    [['token', 'create', 'x'], "taskdash: required option '--group <group>' not specified\n"],
    [['user', 'add', 'x'], 'taskdash: The password is missing: type it, pipe it in as one line, or use --generate.\n'],
  ])('refuses %j in one line', async (args, line) => {
    expect(await taskdash(args)).toEqual({ code: 2, stdout: '', stderr: line });
  });

  it.each([
    [['user', 'set-password', 'nobody'], 'long enough', 'taskdash: The id names no user: "nobody".\n'],
    [['user', 'set-password', 'nobody', '--generate'], '', 'taskdash: The id names no user: "nobody".\n'],
    [
      ['user', 'add', '', '--generate'],
      '',
      'taskdash: The id must have 1 to 256 characters and no control characters.\n',
    ],
    [['user', 'add', 'x'], 'short', 'taskdash: The new password must have 8 to 1024 characters.\n'],
    [
      ['user', 'set-password', 'admin'],
      'taskdash1',
      'taskdash: The new password must not be little more than the user name or the name of TaskDash; a few words that have' +
        ' nothing to do with each other are hard to guess and easy to keep in mind.\n',
    ],
  ])('says what is wrong with %j', async (args, input, line) => {
    const { code, stdout, stderr } = await taskdash(args, `${input}\n`);
    expect({ code, stdout, stderr: stderr.replace(/^Database: .*\n/, '') }).toEqual({
      code: 1,
      stdout: '',
      stderr: line,
    });
  });

  it.each([
    ['--http-port', 'HTTP', 'TASKDASH_HTTP_PORT'],
    ['--grpc-port', 'gRPC', 'TASKDASH_GRPC_PORT'],
    ['--tcp-port', 'TCP', 'TASKDASH_TCP_PORT'],
  ])('refuses to serve where the port of %s is taken, in one line', async (flag, door, variable) => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const free = ['--http-port', '0', '--grpc-port', '0', '--tcp-port', '0'];
    expect(await taskdash(['serve', ...free, flag, String(port)])).toEqual({
      code: 1,
      stdout: '',
      stderr:
        `taskdash: The ${door} door cannot listen on 127.0.0.1:${port}: the port is in use, perhaps by another TaskDash. ` +
        `Stop that, or set ${variable} to another port; 0 takes any free one.\n`,
    });
    taken.close();
  });

  it.each([
    ['no.such.host.invalid', /HTTP door cannot listen on no\.such\.host\.invalid:0: .*Mend TASKDASH_HOST/],
    [
      '192.0.2.1',
      /HTTP door cannot listen on 192\.0\.2\.1:0: this machine has no such address\. Mend TASKDASH_HOST\.\n$/,
    ],
  ])('refuses to serve on %s', async (host, line) => {
    const free = ['--http-port', '0', '--grpc-port', '0', '--tcp-port', '0'];
    const { code, stderr } = await taskdash(['serve', '--host', host, ...free]);
    expect(code).toBe(1);
    expect(stderr).toMatch(line);
  });

  it('refuses one port for two doors', async () => {
    const probe = createServer().listen(0, '127.0.0.1');
    await once(probe, 'listening');
    const port = String((probe.address() as AddressInfo).port);
    probe.close();
    const { code, stderr } = await taskdash(['serve', '--http-port', port, '--grpc-port', port, '--tcp-port', '0']);
    expect(code).toBe(1);
    expect(stderr).toContain(`The gRPC door cannot listen on 127.0.0.1:${port}`);
  });

  it('says of each thing that a start needs whether it is well', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const { code, stdout } = await taskdash([
      'doctor',
      '--http-port',
      String(port),
      '--grpc-port',
      '0',
      '--tcp-port',
      '0',
    ]);
    taken.close();
    expect(code).toBe(1);
    expect(stdout).toMatch(
      /ok {4}database: "\w+" at \S+ answers, schema \w+\nok {4}servers: .*\nwrong HTTP port: .*127\.0\.0\.1:\d+: the port is in use/,
    );
  });

  it('says of a server that runs whether it is well', async () => {
    const ports = [app.http, `tcp://${app.grpc}`, `tcp://${app.tcp}`].map((address) => new URL(address).port);
    const flags = ['--http-port', '--grpc-port', '--tcp-port'].flatMap((flag, n) => [flag, ports[n] ?? '']);
    const well = await taskdash(['doctor', ...flags]);
    expect(well.stdout).toMatch(
      /^ok {4}server: runs and is ready at http:.*\nok.*\nok.*\nok {4}TCP port: .* is open\n$/m,
    );
    expect(well.code).toBe(0);
    const closed = await taskdash(['doctor', ...flags, '--tcp-port', '1']);
    expect(closed.stdout).toContain('wrong TCP port: connect ECONNREFUSED 127.0.0.1:1');
    expect(closed.code).toBe(1);
  });

  it('tells of servers of its database at other ports', async () => {
    const { code, stdout } = await taskdash(['doctor', '--http-port', '0', '--grpc-port', '0', '--tcp-port', '0']);
    expect(stdout).toMatch(
      /^ok {4}servers: 1 lives on this database: "\S+" \(heard of \d s ago\); none of them at the ports of these settings$/m,
    );
    expect(code).toBe(0);
  });

  it('only looks: a doctor migrates nothing', async () => {
    const empty = await createTestDatabase('empty');
    const old = await createTestDatabase();
    const client = new pg.Client(old.url);
    await client.connect();
    await client.query(`DELETE FROM schema_migration WHERE timestamp = (SELECT max(timestamp) FROM schema_migration)`);
    const free = ['--http-port', '0', '--grpc-port', '0', '--tcp-port', '0'];
    const look = (url: string) => taskdash(['doctor', ...free, '--database-url', url]);
    const ofEmpty = await look(empty.url);
    expect(ofEmpty.stdout).toMatch(
      /^ok {4}database: .* answers and is empty; a start, or "taskdash migrate", makes the tables$/m,
    );
    expect((await look(empty.url)).stdout).toBe(ofEmpty.stdout);
    const ofOld = await look(old.url);
    expect(ofOld.stdout).toMatch(
      /, schema \w+; a start, or "taskdash migrate", still has to run ReturnsByAddress\d+$/m,
    );
    expect([ofEmpty.code, ofOld.code]).toEqual([0, 0]);
    expect((await look(old.url)).stdout).toBe(ofOld.stdout);
    await client.query(`INSERT INTO schema_migration (timestamp, name) VALUES (9999999999999, 'Future')`);
    expect((await look(old.url)).stdout).toMatch(
      /^wrong database: The database was migrated by a newer TaskDash \(Future\)/m,
    );
    await client.end();
    for (const database of [empty, old]) await database.drop();
  });

  it('says of a server that runs on another database that it does, and that its ports are taken', async () => {
    const other = await createTestDatabase();
    const ports = [app.http, `tcp://${app.grpc}`, `tcp://${app.tcp}`].map((address) => new URL(address).port);
    const flags = ['--http-port', '--grpc-port', '--tcp-port'].flatMap((flag, n) => [flag, ports[n] ?? '']);
    const { code, stdout } = await taskdash(['doctor', ...flags, '--database-url', other.url]);
    expect(stdout).toMatch(
      /^wrong server: another TaskDash \(node \S+\) runs at http:\S+, on another database than this one\./m,
    );
    expect(stdout).toMatch(/^wrong HTTP port: .*the port is in use/m);
    expect(code).toBe(1);
    const unknown = await taskdash(['doctor', ...flags, '--database-url', 'postgres://u@127.0.0.1:1/x']);
    expect(unknown.stdout).toMatch(/^ok {4}server: .*; whether it works on this database cannot be known$/m);
    expect(unknown.code).toBe(1);
    await other.drop();
  });

  it('says which migrations it ran', async () => {
    const empty = await createTestDatabase('empty');
    const migrate = async () => (await taskdash(['migrate', '--database-url', empty.url])).stdout;
    expect(await migrate()).toMatch(/^The database has the schema (\w+); ran \d+: Tasks0000000000001, .*, \1\.\n$/);
    expect(await migrate()).toMatch(/^The database has the schema \w+; there was nothing to do\.\n$/);
    await empty.drop();
  });

  it('is a program that is there before the build, as `npx taskdash` expects', async () => {
    const { bin } = JSON.parse(await readFile('package.json', 'utf8')) as { bin: { taskdash: string } };
    expect((await run(bin.taskdash, ['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    const clone = await mkdtemp(join(tmpdir(), 'taskdash-clone-'));
    await cp('package.json', join(clone, 'package.json'));
    await cp(bin.taskdash, join(clone, bin.taskdash));
    const stderr =
      'taskdash: it is not built yet. Run `npm start` or `npm run build` in its folder, then this again.\n';
    await expect(run(join(clone, bin.taskdash), ['--version'])).rejects.toMatchObject({ code: 1, stdout: '', stderr });
    await rm(clone, { recursive: true });
  });

  it('tells its version', async () => {
    expect((await taskdash(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it('tells of each setting what it means, its choices and its default', async () => {
    const help = (await taskdash(['serve', '--help'])).stdout.replace(/\s+/g, ' ');
    expect(help).toContain('The least severe lines to log. (debug, info, warn, error or silent; default: info)');
    expect(help).toContain('How log lines look. (pretty or json; default: pretty on a terminal, else json)');
    expect(help).toContain('(true or false; default: false)');
    expect(help).toContain('--http-host <value> Address of the HTTP door alone. (default: TASKDASH_HOST)');
  });

  it('explains itself', async () => {
    const { stdout } = await taskdash(['--help']);
    for (const command of ['serve', 'migrate', 'doctor', 'user', 'token', 'tasks', 'sessions'])
      expect(stdout).toContain(command);
  });
});
