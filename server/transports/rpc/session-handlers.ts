/** SessionService, and what administrators decide about protection. */
import type { ServiceImpl } from '@connectrpc/connect';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromDate } from '@bufbuild/protobuf/wkt';
import {
  ServerEventKind,
  type AdminService,
  type ServerEventSchema,
} from '../../../proto/gen/taskdash/admin/v1/admin_service_pb.js';
import {
  Door as DoorMessage,
  SessionState,
  type SessionSchema,
  type SessionService,
} from '../../../proto/gen/taskdash/task/v1/session_service_pb.js';
import { actorOf, type Principal } from '../../domain/access.js';
import type { Authenticator } from '../../domain/authenticator.js';
import { TaskDashError } from '../../domain/errors.js';
import type { Liveness } from '../../domain/liveness.js';
import type { NodeEvent, NodeEventKind, SessionView } from '../../domain/liveness-ports.js';
import type { Log } from '../../domain/ports.js';
import { pageSizeOf } from '../../domain/task-registry.js';
import type { TokenSealer } from '../../domain/token-sealer.js';
import type { Calls } from './call.js';
import { MARKS } from './convert.js';
import { requirePrincipal } from './guard.js';
import type { PageTurns } from './page-turns.js';
import { requireSendable, sendableOnly, sendableSpan } from './sendable.js';

/** What these handlers need of liveness. */
export type Sessions = Pick<Liveness, 'listSessions' | 'protections' | 'expireNow' | 'hold' | 'nodeEvents'>;

interface SessionHandlersOptions {
  readonly sessions: Sessions;
  readonly auth: Authenticator;
  readonly calls: Calls;
  readonly pages: PageTurns;
  readonly log: Log;
  readonly sealer: TokenSealer;
}

const DOORS = { tcp: DoorMessage.TCP, grpc: DoorMessage.GRPC } as const;
const EVENT_KINDS: Readonly<Record<NodeEventKind, ServerEventKind>> = {
  protection_began: ServerEventKind.PROTECTION_BEGAN,
  protection_held: ServerEventKind.PROTECTION_HELD,
  protection_ended: ServerEventKind.PROTECTION_ENDED,
  lease_lost: ServerEventKind.LEASE_LOST,
  sessions_adopted: ServerEventKind.SESSIONS_ADOPTED,
  return_in_doubt: ServerEventKind.RETURN_IN_DOUBT,
  limit_reached: ServerEventKind.LIMIT_REACHED,
};
const STATES = { open: SessionState.OPEN, closing: SessionState.CLOSING, orphan: SessionState.ORPHAN } as const;

/** The implementation of SessionService, for every door. */
export function createSessionHandlers({
  sessions,
  auth,
  calls,
  pages,
  log,
  sealer,
}: SessionHandlersOptions): ServiceImpl<typeof SessionService> {
  return {
    listSessions: (request, context) =>
      calls.unary(context, async () => {
        const principal = await requirePrincipal(auth, context);
        const limit = pageSizeOf(request.pageSize);
        const after = openToken(sealer, request.pageToken);
        const found = await pages.run(context, principal, () => sessions.listSessions(principal, after, limit));
        const last = found.length < limit ? undefined : found.at(-1);
        return {
          sessions: sendableOnly(found, log, sessionMessage),
          nextPageToken: last ? sealer.seal('sessions', null, last.id) : '',
        };
      }),

    listProtections: (_request, context) =>
      calls.unary(context, async () => {
        await requirePrincipal(auth, context);
        return {
          protections: sessions
            .protections()
            .map(({ node, protection: { sinceMs, endsInMs, lost, of, held, heldBy } }) => {
              return { node, since: durationFromMs(sinceMs), endsIn: durationFromMs(endsInMs), lost, of, held, heldBy };
            }),
        };
      }),
  };
}

/** The implementation of AdminService, for every door. */
export function createAdminHandlers({
  sessions,
  auth,
  calls,
  pages,
  log,
}: Omit<SessionHandlersOptions, 'sealer'>): ServiceImpl<typeof AdminService> {
  return {
    expireNow: (request, context) =>
      calls.unary(context, async () => {
        const principal = requireAdministrator(await requirePrincipal(auth, context));
        if (!(await sessions.expireNow(request.node, actorOf(principal)))) throw nothingProtected(request.node);
        return {};
      }),

    holdProtection: (request, context) =>
      calls.unary(context, async () => {
        const principal = requireAdministrator(await requirePrincipal(auth, context));
        if (!(await sessions.hold(request.node, actorOf(principal)))) throw nothingProtected(request.node);
        return {};
      }),

    listServerEvents: (request, context) =>
      calls.unary(context, async () => {
        const principal = requireAdministrator(await requirePrincipal(auth, context));
        const limit = pageSizeOf(request.pageSize);
        const found = await pages.run(context, principal, () => sessions.nodeEvents(limit));
        return { events: sendableOnly(found, log, eventMessage) };
      }),
  };
}

function requireAdministrator(principal: Principal): Principal {
  if (principal.kind === 'user' && principal.administrator) return principal;
  throw new TaskDashError('PERMISSION_DENIED', { message: `${actorOf(principal)} is no administrator.` });
}

function nothingProtected(node: string): TaskDashError {
  return new TaskDashError('NOT_PROTECTING', { message: `The server ${JSON.stringify(node)} protects nothing now.` });
}

function openToken(sealer: TokenSealer, token: string): string | undefined {
  if (token === '') return undefined;
  const id = sealer.open('sessions', null, token);
  if (typeof id !== 'string') throw new TaskDashError('PAGE_TOKEN_INVALID');
  return id;
}

/** Throws TASK_UNSENDABLE. */
function eventMessage({ node, at, kind, details }: NodeEvent): MessageInitShape<typeof ServerEventSchema> {
  requireSendable(`The event ${kind} of the server ${JSON.stringify(node)}`, { at });
  const texts = Object.entries(details).map(([name, value]) => [name, String(value)] as const);
  return { node, at: timestampFromDate(at), kind: EVENT_KINDS[kind], details: Object.fromEntries(texts) };
}

/** Throws TASK_UNSENDABLE. */
function sessionMessage(session: SessionView): MessageInitShape<typeof SessionSchema> {
  const { id, address, owner, node, tasks, openedAt, lastSeenAt } = session;
  const lastSeenWithin = sendableSpan(session.lastSeenWithinMs);
  requireSendable(`The session ${id}`, { openedAt, lastSeenAt, lastSeenWithin });
  return {
    ...{ id, address, owner, node, tasks },
    door: DOORS[session.door],
    state: STATES[session.state],
    ttl: durationFromMs(session.ttlMs),
    openedAt: timestampFromDate(openedAt),
    lastSeenAt: timestampFromDate(lastSeenAt),
    lastSeenWithin: durationFromMs(lastSeenWithin),
    marks: session.marks.map((mark) => MARKS[mark]),
  };
}
