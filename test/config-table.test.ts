import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ConfigError, flagOf, readConfig, SETTING_NAMES, SETTINGS, unknownVariables } from '../server/config.js';

const documented = readFileSync(new URL('../docs/configuration.md', import.meta.url), 'utf8');
const rows = new Map(
  documented
    .split('\n')
    .map((line) => /^\| `(TASKDASH_\w+)` \| `--([\w-]+)` \| (.+?) \| (.+) \|$/.exec(line))
    .filter((match) => match !== null)
    .map((match) => [match[1], { flag: match[2], fallback: match[3], meaning: match[4] }]),
);

describe('the table of settings', () => {
  it.each(SETTING_NAMES)('documents %s with its flag, default and meaning', (name) => {
    const definition: { env: string; fallback: string | null; fallbackWords?: string; meaning: string } =
      SETTINGS[name];
    const fallback = definition.fallback === null ? definition.fallbackWords : `\`${definition.fallback}\``;
    expect(rows.get(definition.env)).toEqual({ flag: flagOf(name), fallback, meaning: definition.meaning });
  });

  it('documents no setting that does not exist', () => {
    expect([...rows.keys()].sort()).toEqual(SETTING_NAMES.map((name) => SETTINGS[name].env).sort());
  });
});

describe('readConfig', () => {
  it('takes the defaults when nothing is set', () => {
    expect(readConfig({})).toMatchObject({
      host: '127.0.0.1',
      httpPort: 8080,
      heartbeatTtl: 30_000,
      databaseUrl: undefined,
    });
  });

  it('prefers a flag to a variable and a variable to the default', () => {
    const env = { TASKDASH_HTTP_PORT: '1', TASKDASH_GRPC_PORT: '2' };
    expect(readConfig(env, { httpPort: '3' })).toMatchObject({ httpPort: 3, grpcPort: 2, tcpPort: 7171 });
  });

  it('takes an empty variable as not set, the allow-list too, for which all addresses are a word', () => {
    const { host, tcpAllow } = readConfig({ TASKDASH_HOST: '', TASKDASH_TCP_ALLOW: '' });
    expect([host, tcpAllow]).toEqual(['127.0.0.1', readConfig({}).tcpAllow]);
    expect(readConfig({ TASKDASH_TCP_ALLOW: 'any' }).tcpAllow).toEqual([]);
    expect(() => readConfig({}, { tcpAllow: '' })).toThrow('or "any" for every address');
  });

  it.each([
    [
      { TASKDASH_HTTP_PORT: '65536' },
      'TASKDASH_HTTP_PORT: "65536" is not allowed; it must be a whole number from 0 to 65535.',
    ],
    [
      { TASKDASH_HTTP_PORT: '80 ' },
      'TASKDASH_HTTP_PORT: "80 " is not allowed; it must be a whole number from 0 to 65535.',
    ],
    [
      { TASKDASH_HEARTBEAT_TTL: '30' },
      'TASKDASH_HEARTBEAT_TTL: "30" is not allowed; it must be a duration from 1s to 10m, such as 30s or 2m.',
    ],
    [
      { TASKDASH_WRITE_DEADLINE: '2m' },
      'TASKDASH_WRITE_DEADLINE: "2m" is not allowed; it must be a duration from 100ms to 1m, such as 500ms or 30s.',
    ],
    [
      { TASKDASH_PROTECTION_MAX: 'long' },
      'TASKDASH_PROTECTION_MAX: "long" is not allowed; it must be a duration from 0ms to 1d, such as 500ms, 30s or 2m.',
    ],
    [
      { TASKDASH_HTTP_TRUSTED_PROXIES: '10.0.0.0/33' },
      'TASKDASH_HTTP_TRUSTED_PROXIES: "10.0.0.0/33" is not allowed; it must be addresses or CIDR ranges, separated by commas, such as 10.0.0.0/8,::1.',
    ],
    [
      { TASKDASH_LOG_LEVEL: 'loud' },
      'TASKDASH_LOG_LEVEL: "loud" is not allowed; it must be debug, info, warn, error or silent.',
    ],
  ])('refuses %j in one line that names setting, value and what is allowed', (env, message) => {
    expect(() => readConfig(env)).toThrow(new ConfigError(message));
  });

  const durations = SETTING_NAMES.filter((name) => SETTINGS[name].schema.safeParse('1s').data === 1000);

  it.each(durations)('takes no duration for %s that a timer or the database does not take', (name) => {
    const texts = ['300000y', '1e400', '9e15', '9e15ms', '9000000000000000ms', '2147483648ms', `${'9'.repeat(120)}s`];
    for (const text of [...texts, 'NaN', 'Infinity', '-1s', '1s ', '']) {
      expect(() => readConfig({}, { [name]: text })).toThrow(`"${text}" is not allowed; it must be a duration from`);
    }
    expect(readConfig({}, { [name]: '1000.4ms' })[name]).toBe(1000);
  });

  it('names the flag when a flag is wrong', () => {
    expect(() => readConfig({}, { tcpPort: 'x' })).toThrow('--tcp-port: "x" is not allowed');
  });

  it('keeps secrets out of the error', () => {
    expect(() => readConfig({ TASKDASH_DATABASE_URL: 'mysql://u:hunter2@h' })).toThrow(
      /^(?!.*hunter2)TASKDASH_DATABASE_URL/,
    );
    expect(() => readConfig({ TASKDASH_ADMIN_PASSWORD: 'short' })).toThrow(/^(?!.*"short")TASKDASH_ADMIN_PASSWORD/);
  });

  it('finds variables that look like settings and are none', () => {
    expect(unknownVariables({ TASKDASH_HTPP_PORT: '1', TASKDASH_HTTP_PORT: '1', PATH: '' })).toEqual([
      'TASKDASH_HTPP_PORT',
    ]);
  });
});
