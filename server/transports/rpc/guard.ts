/** Who calls: from the headers of a call to a principal. Every handler begins here. */
import { createContextKey, type ConnectError, type HandlerContext } from '@connectrpc/connect';
import type { Principal } from '../../domain/access.js';
import type { Authenticator, Credentials } from '../../domain/authenticator.js';
import { quoted, TaskDashError } from '../../domain/errors.js';

/** What a door knows of a call beside its headers. */
export interface Caller {
  readonly door: 'grpc' | 'http';
  /** The peer's address, without the port. */
  readonly address: string;
  /** Names the connection among those that are open. */
  readonly connection: string;
  /** Whether the caller speaks TLS, with this door or with a proxy in front of it. */
  readonly isEncrypted: boolean;
  /** Where browsers see this server beside what the request is for, as behind a proxy: "https://tasks.example.com". */
  readonly origins?: readonly string[];
}

/** Under which a door puts the caller into the context of a call. */
export const callerKey = createContextKey<Caller>(
  { door: 'http', address: '', connection: '', isEncrypted: false },
  { description: 'caller' },
);

/**
 * Under which a door puts how it ends a call at once, whether or not the caller takes what has been sent. Whether the caller
 * still hears the reason depends on the door.
 */
export const hangUpKey = createContextKey<(reason: ConnectError) => void>(() => {}, { description: 'hang up' });

/** The name of the session's cookie. Over TLS browsers hold it, by its name, to this host and to TLS. */
function cookieName({ isEncrypted }: Pick<Caller, 'isEncrypted'>): string {
  return isEncrypted ? '__Host-taskdash_session' : 'taskdash_session';
}

/** What a call brought along. */
export function credentialsOf(context: HandlerContext): Credentials {
  return credentialsIn((name) => context.requestHeader.get(name), context.values.get(callerKey));
}

/** The same from the headers alone, before there is a call. */
export function credentialsIn(
  header: (name: string) => string | null | undefined,
  caller: Omit<Caller, 'connection'>,
): Credentials {
  const bearer = /^Bearer +(\S+)$/i.exec(header('authorization') ?? '')?.[1];
  const cookie = cookieOf(header('cookie') ?? '', cookieName(caller));
  return { address: caller.address, ...(bearer !== undefined && { bearer }), ...(cookie !== undefined && { cookie }) };
}

function cookieOf(header: string, wanted: string): string | undefined {
  for (const part of header.split(';')) {
    const [name, value] = part.trim().split('=', 2);
    if (name === wanted && value) return value;
  }
  return undefined;
}

/** The principal of a call, or undefined when nobody is logged in. Throws NOT_LOGGED_IN, CROSS_SITE_REFUSED. */
export async function principalOrNobody(
  auth: Pick<Authenticator, 'authenticate'>,
  context: HandlerContext,
): Promise<Principal | undefined> {
  const credentials = credentialsOf(context);
  if (credentials.bearer === undefined) refuseCrossSite(context);
  return auth.authenticate(credentials);
}

/** The principal of a call. Throws NOT_LOGGED_IN, PASSWORD_CHANGE_REQUIRED, CROSS_SITE_REFUSED. */
export async function requirePrincipal(
  auth: Pick<Authenticator, 'authenticate'>,
  context: HandlerContext,
): Promise<Principal> {
  const principal = await requireSomebody(auth, context);
  if (principal.kind === 'user' && principal.mustChangePassword) throw new TaskDashError('PASSWORD_CHANGE_REQUIRED');
  return principal;
}

/** The same, also of a user who has to change the password first. Throws NOT_LOGGED_IN, CROSS_SITE_REFUSED. */
export async function requireSomebody(
  auth: Pick<Authenticator, 'authenticate'>,
  context: HandlerContext,
): Promise<Principal> {
  const principal = await principalOrNobody(auth, context);
  if (!principal) throw new TaskDashError('NOT_LOGGED_IN');
  return principal;
}

/**
 * Refuses what another web site makes a browser send. Browsers say where a request comes from in Sec-Fetch-Site, older
 * ones in Origin; whoever sends neither is no browser.
 */
export function refuseCrossSite({ requestHeader, values }: HandlerContext): void {
  const site = requestHeader.get('sec-fetch-site');
  if (site === 'same-origin' || site === 'none') return;
  if (site !== null) throw new TaskDashError('CROSS_SITE_REFUSED');
  const origin = requestHeader.get('origin');
  if (origin === null || hostOf(origin) === requestHeader.get('host')) return;
  if (values.get(callerKey).origins?.includes(origin)) return;
  const message =
    `The request came from another web site, ${quoted(origin)}. If that is this server behind ` +
    'a proxy, set TASKDASH_PUBLIC_URL to it, or name the proxy in TASKDASH_HTTP_TRUSTED_PROXIES and have it send X-Forwarded-Host.';
  throw new TaskDashError('CROSS_SITE_REFUSED', { message });
}

function hostOf(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host : undefined;
}

/** Sets the cookie that carries a session; an end in the past takes it away. */
export function setSessionCookie(context: HandlerContext, token: string, expiresAt: Date): void {
  const caller = context.values.get(callerKey);
  const rules = `Path=/; HttpOnly; SameSite=Strict; Expires=${expiresAt.toUTCString()}`;
  const secure = caller.isEncrypted ? '; Secure' : '';
  context.responseHeader.append('set-cookie', `${cookieName(caller)}=${token}; ${rules}${secure}`);
}
