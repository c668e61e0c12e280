/**
 * Every setting, in one table: environment variable, flag, default, meaning, and what is allowed. docs/configuration.md
 * is held to this table by a test. `readConfig` turns environment and flags into one frozen Config, or throws a
 * ConfigError whose message is one line that names the setting, the value and what is allowed.
 */
import { hostname } from 'node:os';
import ms from 'ms';
import { z } from 'zod';
import { DATABASE_URL_RULE, isDatabaseUrl } from './database-url.js';
import { isAddressOrRange } from './transports/client-address.js';

/** A setting that is not allowed. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

const MAX_DURATION_MS = 24 * 3_600_000;
const ANY = 'any';

/** A duration such as "30s", "1500ms" or "2m", in whole milliseconds: timers and the database take no others. */
function duration(minMs: number, maxMs = MAX_DURATION_MS) {
  const examples = (['500ms', '30s', '2m'] as const).filter((text) => ms(text) >= minMs && ms(text) <= maxMs);
  const allowed = `a duration from ${ms(minMs)} to ${ms(maxMs)}, such as ${examples.join(', ').replace(/, (?=\w+$)/, ' or ')}`;
  return z
    .string()
    .regex(/^\d+(\.\d+)?(ms|s|m|h)$/, allowed)
    .transform((text) => Math.round(ms(text as ms.StringValue)))
    .refine((value) => value >= minMs && value <= maxMs, allowed);
}

function integer(min: number, max: number) {
  const allowed = `a whole number from ${min} to ${max}`;
  return z
    .string()
    .regex(/^\d{1,15}$/, allowed)
    .transform(Number)
    .refine((value) => value >= min && value <= max, allowed);
}

const port = () => integer(0, 65_535);
const host = () => z.string().regex(/^[A-Za-z0-9.:_-]{1,253}$/, 'an address or host name without port');
const flag = () => z.enum(['true', 'false'], 'true or false').transform((text) => text === 'true');

const partsOf = (text: string) =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');

function addresses() {
  const allowed = 'addresses or CIDR ranges, separated by commas, such as 10.0.0.0/8,::1';
  return z
    .string()
    .transform(partsOf)
    .refine((parts) => parts.every(isAddressOrRange), allowed);
}

/** Addresses, of which there has to be one, or a word for all of them, which is an empty list. */
function addressesOrAny() {
  const allowed = `addresses or CIDR ranges, separated by commas, such as 10.0.0.0/8,::1, or "${ANY}" for every address`;
  return z
    .string()
    .transform(partsOf)
    .refine((parts) => parts.join() === ANY || (parts.length > 0 && parts.every(isAddressOrRange)), allowed)
    .transform((parts) => (parts.join() === ANY ? [] : parts));
}

const urls = () => {
  const allowed = 'URLs that begin with http:// or https://, separated by commas, such as https://tasks.example.com';
  return z
    .string()
    .transform((text) => text.split(',').map((part) => part.trim()))
    .refine((parts) => parts.every((part) => /^https?:\/\/[^/]/.test(part) && URL.canParse(part)), allowed);
};

interface Setting<T> {
  readonly env: string;
  /** The text that stands in when nothing is set; null: nothing. */
  readonly fallback: string | null;
  /** The default in words, where it is not simply `fallback`. */
  readonly fallbackWords?: string;
  readonly meaning: string;
  readonly schema: z.ZodType<T, string>;
  /** Kept out of every print of the configuration. */
  readonly secret?: boolean;
}

function setting<T>(definition: Setting<T>): Setting<T> {
  return definition;
}

/** The address ranges that the legacy door takes by default: loopback, private and link-local. */
const PRIVATE_RANGES = '127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,169.254.0.0/16,::1/128,fc00::/7,fe80::/10';

/** The table. The flag of a setting is its variable in kebab case: TASKDASH_HTTP_PORT is --http-port. */
export const SETTINGS = {
  host: setting({
    env: 'TASKDASH_HOST',
    fallback: '127.0.0.1',
    meaning: 'Address that all doors listen on.',
    schema: host(),
  }),
  httpHost: setting({
    env: 'TASKDASH_HTTP_HOST',
    fallback: null,
    fallbackWords: 'TASKDASH_HOST',
    meaning: 'Address of the HTTP door alone.',
    schema: host(),
  }),
  httpPort: setting({
    env: 'TASKDASH_HTTP_PORT',
    fallback: '8080',
    meaning: 'Port of the page, Connect, gRPC-Web, JSON, /healthz, /readyz and /metrics; 0 takes any free port.',
    schema: port(),
  }),
  publicUrl: setting({
    env: 'TASKDASH_PUBLIC_URL',
    fallback: null,
    fallbackWords: 'where it listens',
    meaning:
      'URLs by which people and services reach the HTTP door, separated by commas; for other hosts than these, loopback and where it listens it does not answer.',
    schema: urls(),
  }),
  httpTrustedProxies: setting({
    env: 'TASKDASH_HTTP_TRUSTED_PROXIES',
    fallback: null,
    fallbackWords: 'none',
    meaning: 'Addresses of reverse proxies in front of the HTTP door, whose X-Forwarded-For is believed.',
    schema: addresses(),
  }),
  grpcHost: setting({
    env: 'TASKDASH_GRPC_HOST',
    fallback: null,
    fallbackWords: 'TASKDASH_HOST',
    meaning: 'Address of the gRPC door alone.',
    schema: host(),
  }),
  grpcPort: setting({
    env: 'TASKDASH_GRPC_PORT',
    fallback: '50051',
    meaning: 'Port of gRPC; 0 takes any free port.',
    schema: port(),
  }),
  tcpHost: setting({
    env: 'TASKDASH_TCP_HOST',
    fallback: null,
    fallbackWords: 'TASKDASH_HOST',
    meaning: 'Address of the legacy TCP door alone.',
    schema: host(),
  }),
  tcpPort: setting({
    env: 'TASKDASH_TCP_PORT',
    fallback: '7171',
    meaning: 'Port of the legacy TCP door; 0 takes any free port.',
    schema: port(),
  }),
  databaseUrl: setting({
    env: 'TASKDASH_DATABASE_URL',
    fallback: null,
    fallbackWords: 'the embedded PostgreSQL',
    meaning: 'A PostgreSQL 14 or newer, as postgres://user:password@host:port/database.',
    schema: z
      .string()
      .regex(/^postgres(ql)?:\/\/.+/, 'a URL that begins with postgres://')
      .refine(isDatabaseUrl, DATABASE_URL_RULE),
    secret: true,
  }),
  databasePoolSize: setting({
    env: 'TASKDASH_DATABASE_POOL_SIZE',
    fallback: '10',
    meaning: 'Connections to the database that this node opens at most, beside one that listens.',
    schema: integer(2, 200),
  }),
  dataDir: setting({
    env: 'TASKDASH_DATA_DIR',
    fallback: '.taskdash',
    meaning: 'Folder of the embedded database.',
    schema: z.string().min(1, 'a path'),
  }),
  nodeName: setting({
    env: 'TASKDASH_NODE_NAME',
    fallback: null,
    fallbackWords: 'host name and a random suffix',
    meaning: 'Name of this server in histories and metrics; must differ between nodes.',
    schema: z.string().regex(/^[\w.:-]{1,64}$/, '1 to 64 letters, digits, dots, colons, dashes or underscores'),
  }),
  adminUsername: setting({
    env: 'TASKDASH_ADMIN_USERNAME',
    fallback: 'admin',
    meaning: 'User id of the first administrator; used once, when there is no user yet.',
    schema: z.string().min(1).max(256, 'at most 256 characters'),
  }),
  adminPassword: setting({
    env: 'TASKDASH_ADMIN_PASSWORD',
    fallback: null,
    fallbackWords: 'generated and printed once',
    meaning: 'Password of the first administrator; used once, when there is no user yet.',
    schema: z.string().min(8, '8 to 1024 characters').max(1024, '8 to 1024 characters'),
    secret: true,
  }),
  heartbeatTtl: setting({
    env: 'TASKDASH_HEARTBEAT_TTL',
    fallback: '30s',
    meaning: 'How long a session may be silent before its tasks become shutdown.',
    schema: duration(1000, 600_000),
  }),
  reconnectGrace: setting({
    env: 'TASKDASH_RECONNECT_GRACE',
    fallback: null,
    fallbackWords: 'the rest of the TTL',
    meaning: 'How long the tasks of a closed connection wait for it to come back; 0s: not at all.',
    schema: duration(0, 3_600_000),
  }),
  failoverGrace: setting({
    env: 'TASKDASH_FAILOVER_GRACE',
    fallback: null,
    fallbackWords: '60s or twice the TTL, whichever is longer',
    meaning: 'How long the tasks of a server that ended wait for their services to come back.',
    schema: duration(0, 3_600_000),
  }),
  leasesPerOwner: setting({
    env: 'TASKDASH_LEASES_PER_OWNER',
    fallback: '2000',
    meaning: 'Leases that one token may have at this node at once; a lease vouches for any number of tasks.',
    schema: integer(1, 1_000_000),
  }),
  tokenNewTasks: setting({
    env: 'TASKDASH_TOKEN_NEW_TASKS',
    fallback: '6000',
    meaning: 'Ids that nobody had before which one token may take in a minute, and at once; 0: any number.',
    schema: integer(0, 1_000_000_000),
  }),
  resumeByAddress: setting({
    env: 'TASKDASH_RESUME_BY_ADDRESS',
    fallback: 'single',
    meaning:
      'Whether a service that only reconnects and beats gets its tasks back by its address: where no other can be meant, or not at all.',
    schema: z.enum(['single', 'off'], 'single or off'),
  }),
  nodeLease: setting({
    env: 'TASKDASH_NODE_LEASE',
    fallback: '10s',
    meaning: 'How long other nodes wait for a node that does not renew its lease before they take its sessions over.',
    schema: duration(1000, 600_000),
  }),
  protectionMax: setting({
    env: 'TASKDASH_PROTECTION_MAX',
    fallback: '15m',
    meaning: 'How long mass silence may hold shutdowns back.',
    schema: duration(0, MAX_DURATION_MS),
  }),
  writeDeadline: setting({
    env: 'TASKDASH_WRITE_DEADLINE',
    fallback: '5s',
    meaning: 'How long a register or update waits for the database before it is answered with an error.',
    schema: duration(100, 60_000),
  }),
  writeQueue: setting({
    env: 'TASKDASH_WRITE_QUEUE',
    fallback: '10000',
    meaning: 'Registers and updates that may wait for the database at once.',
    schema: integer(100, 1_000_000),
  }),
  tcpMaxFrameBytes: setting({
    env: 'TASKDASH_TCP_MAX_FRAME_BYTES',
    fallback: '1048576',
    meaning: 'Largest frame of the legacy door.',
    schema: integer(1024, 64 * 1024 * 1024),
  }),
  tcpFrameTimeout: setting({
    env: 'TASKDASH_TCP_FRAME_TIMEOUT',
    fallback: '30s',
    meaning: 'How long a frame of the legacy door may stay incomplete.',
    schema: duration(100, 600_000),
  }),
  tcpMaxConnections: setting({
    env: 'TASKDASH_TCP_MAX_CONNECTIONS',
    fallback: '20000',
    meaning: 'Connections of the legacy door; more are closed at once.',
    schema: integer(1, 1_000_000),
  }),
  tcpMaxConnectionsPerAddress: setting({
    env: 'TASKDASH_TCP_MAX_CONNECTIONS_PER_ADDRESS',
    fallback: '20000',
    meaning: 'Connections of the legacy door from one address.',
    schema: integer(1, 1_000_000),
  }),
  tcpAllow: setting({
    env: 'TASKDASH_TCP_ALLOW',
    fallback: PRIVATE_RANGES,
    meaning: 'Addresses that may use the legacy door; any: every address.',
    schema: addressesOrAny(),
  }),
  tcpRequireToken: setting({
    env: 'TASKDASH_TCP_REQUIRE_TOKEN',
    fallback: 'false',
    meaning: 'Whether connections of the legacy door must authenticate with a service token (message 1393) first.',
    schema: flag(),
  }),
  rpcMaxMessageBytes: setting({
    env: 'TASKDASH_RPC_MAX_MESSAGE_BYTES',
    fallback: '4194304',
    meaning: 'Largest message on gRPC and HTTP, in both directions.',
    schema: integer(65_536, 64 * 1024 * 1024),
  }),
  rpcMaxStreams: setting({
    env: 'TASKDASH_RPC_MAX_STREAMS',
    fallback: '5000',
    meaning: 'Watches that may be open at once on this node.',
    schema: integer(1, 1_000_000),
  }),
  stopTimeout: setting({
    env: 'TASKDASH_STOP_TIMEOUT',
    fallback: '10s',
    meaning: 'How long a graceful stop may take as a whole.',
    schema: duration(0, 600_000),
  }),
  logLevel: setting({
    env: 'TASKDASH_LOG_LEVEL',
    fallback: 'info',
    meaning: 'The least severe lines to log.',
    schema: z.enum(['debug', 'info', 'warn', 'error', 'silent'], 'debug, info, warn, error or silent'),
  }),
  logFormat: setting({
    env: 'TASKDASH_LOG_FORMAT',
    fallback: null,
    fallbackWords: 'pretty on a terminal, else json',
    meaning: 'How log lines look.',
    schema: z.enum(['pretty', 'json'], 'pretty or json'),
  }),
} as const satisfies Record<string, Setting<unknown>>;

type Settings = typeof SETTINGS;
type SettingName = keyof Settings;
type ValueOf<K extends SettingName> = z.output<Settings[K]['schema']>;

/** Every setting's value; those without a default may be undefined. */
export type Config = Readonly<{
  [K in SettingName]: Settings[K]['fallback'] extends null ? ValueOf<K> | undefined : ValueOf<K>;
}>;

/** The command line flag of a setting, without the dashes. */
export function flagOf(name: SettingName): string {
  return SETTINGS[name].env
    .replace(/^TASKDASH_/, '')
    .toLowerCase()
    .replaceAll('_', '-');
}

/** The names of all settings, in the order of the table. */
export const SETTING_NAMES = Object.keys(SETTINGS) as SettingName[];

/** What flags say, under the names of the settings. */
export type FlagValues = Partial<Record<SettingName, string>>;

/**
 * Reads every setting: the flag, else the variable, else the default. Throws ConfigError at the first that is not
 * allowed.
 */
export function readConfig(env: NodeJS.ProcessEnv, flags: FlagValues = {}): Config {
  const values = SETTING_NAMES.map((name) => [name, readSetting(name, env, flags)] as const);
  return Object.freeze(Object.fromEntries(values)) as Config;
}

function readSetting(name: SettingName, env: NodeJS.ProcessEnv, flags: FlagValues): unknown {
  const definition: Setting<unknown> = SETTINGS[name];
  const fromFlag = flags[name];
  // An empty variable counts as not set, as container files write it.
  const fromEnv = env[definition.env] === '' ? undefined : env[definition.env];
  const text = fromFlag ?? fromEnv ?? definition.fallback;
  if (text === null) return undefined;
  const source = fromFlag === undefined ? definition.env : `--${flagOf(name)}`;
  // Node puts U+FFFD for bytes that are no UTF-8.
  if (text.includes('\ufffd')) throw new ConfigError(`${source}: the value given is not valid UTF-8.`);
  const parsed = definition.schema.safeParse(text);
  if (parsed.success) return parsed.data;
  const shown = definition.secret ? 'the value given' : JSON.stringify(text);
  throw new ConfigError(
    `${source}: ${shown} is not allowed; it must be ${parsed.error.issues[0]?.message ?? 'valid'}.`,
  );
}

/** Variables with our prefix that belong to the command line, not to the server. */
const COMMAND_LINE_VARIABLES = new Set(['TASKDASH_TOKEN']);

/**
 * Variables that look like settings and are none: most likely misspelt. They are only worth a warning, since
 * Kubernetes sets TASKDASH_PORT and its like for a service of that name.
 */
export function unknownVariables(env: NodeJS.ProcessEnv): string[] {
  const known = new Set<string>(SETTING_NAMES.map((name) => SETTINGS[name].env));
  return Object.keys(env).filter(
    (variable) => variable.startsWith('TASKDASH_') && !known.has(variable) && !COMMAND_LINE_VARIABLES.has(variable),
  );
}

/** A name for this node where none is set: the host's, with a suffix that tells restarts apart. */
export function defaultNodeName(): string {
  return `${hostname().slice(0, 40)}-${Math.random().toString(36).slice(2, 8)}`;
}
