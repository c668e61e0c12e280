/**
 * Who may see and do what: the one place that decides it. Everything is denied that is not allowed here.
 *
 * A decision about reading is a `Scope`, which every query takes and applies in SQL; a decision about writing is the set
 * of groups in which the caller may write.
 */
import { TaskDashError } from './errors.js';
import type { TaskEvent } from './task.js';

/** A user's place in a group. */
export type Role = 'member' | 'viewer' | 'manager';

/** What a service token may do in its group. */
export type TokenScope = 'register' | 'read';

/** Who asks. */
export type Principal = LegacyService | ServiceToken | User | Operator;

/** A service on the legacy door, trusted by the network it comes from. */
export interface LegacyService {
  readonly kind: 'legacy';
  readonly address: string;
}

/** A service with a token, bound to one group. */
export interface ServiceToken {
  readonly kind: 'token';
  readonly name: string;
  readonly groupId: string;
  readonly scopes: readonly TokenScope[];
  readonly address: string;
}

/** A person who is logged in. */
export interface User {
  readonly kind: 'user';
  readonly id: string;
  readonly administrator: boolean;
  readonly memberships: ReadonlyMap<string, Role>;
  /** They may change their password, and nothing else until they have. */
  readonly mustChangePassword?: true;
}

/** Somebody with access to the database itself, at the command line. */
export interface Operator {
  readonly kind: 'operator';
}

/**
 * Which tasks somebody may see: all, or those of `wholeGroups` and those of `ownGroups` whose user is `user`.
 * Applied inside every query.
 */
export type Scope = 'everything' | { user: string; ownGroups: readonly string[]; wholeGroups: readonly string[] };

/** Which groups somebody may write tasks of. */
export type WriteGroups = 'every' | readonly string[];

/** The scope in which a principal may read. */
export function readScope(principal: Principal): Scope {
  switch (principal.kind) {
    case 'legacy':
    case 'operator':
      return 'everything';
    case 'token':
      return { user: '', ownGroups: [], wholeGroups: principal.scopes.includes('read') ? [principal.groupId] : [] };
    case 'user':
      return principal.administrator ? 'everything' : userScope(principal);
  }
}

function userScope(user: User): Scope {
  const groupsWith = (...roles: Role[]) =>
    [...user.memberships].filter(([, role]) => roles.includes(role)).map(([groupId]) => groupId);
  return { user: user.id, ownGroups: groupsWith('member'), wholeGroups: groupsWith('viewer', 'manager') };
}

/** The groups in which a principal may write. */
export function writeGroups(principal: Principal): WriteGroups {
  switch (principal.kind) {
    case 'legacy':
    case 'operator':
      return 'every';
    case 'token':
      return principal.scopes.includes('register') ? [principal.groupId] : [];
    case 'user':
      if (principal.administrator) return 'every';
      return [...principal.memberships].filter(([, role]) => role === 'manager').map(([groupId]) => groupId);
  }
}

/** Whose a task is. */
export interface TaskOwner {
  readonly user: string;
  readonly group_id: string;
}

/** Whether a task lies in a scope. The queries say the same in SQL. */
export function isVisible(scope: Scope, task: TaskOwner): boolean {
  if (scope === 'everything') return true;
  return (
    scope.wholeGroups.includes(task.group_id) || (task.user === scope.user && scope.ownGroups.includes(task.group_id))
  );
}

/** An event as a scope shows it: of one that moved the task into sight, nothing of what was before it. */
export function eventIn(scope: Scope, event: TaskEvent, previous: TaskOwner): TaskEvent {
  return isVisible(scope, previous) ? event : { ...event, fromStatus: '', gapMs: null };
}

/** Whether a task of this group may be written. */
export function mayWrite(groups: WriteGroups, groupId: string): boolean {
  return groups === 'every' || groups.includes(groupId);
}

/** Throws PERMISSION_DENIED when the principal may write nowhere at all. */
export function requireSomeWriting(principal: Principal): WriteGroups {
  const groups = writeGroups(principal);
  if (groups !== 'every' && groups.length === 0) {
    throw new TaskDashError('PERMISSION_DENIED', {
      message: `${actorOf(principal)} may not register or update tasks.`,
    });
  }
  return groups;
}

/** The principal as the history names it. */
export function actorOf(principal: Principal): string {
  switch (principal.kind) {
    case 'legacy':
      return `service:${principal.address}`;
    case 'token':
      return `token:${principal.name}`;
    case 'user':
      return `user:${principal.id}`;
    case 'operator':
      return 'operator';
  }
}

/**
 * The principal as the owner of sessions and leases. Names of tokens need not differ between groups, and one group's must
 * not end what another's holds; an encoded group has no "@" in it.
 */
export function ownerOf(principal: Principal): string {
  return principal.kind === 'token'
    ? `${actorOf(principal)}@${encodeURIComponent(principal.groupId)}`
    : actorOf(principal);
}

/** The address that a principal reports tasks from; empty for people. */
export function addressOf(principal: Principal): string {
  return principal.kind === 'legacy' || principal.kind === 'token' ? principal.address : '';
}

/** Whether a change by this principal counts as the service's own word or as an operator's. */
export function causeOf(principal: Principal): 'client' | 'operator' {
  return principal.kind === 'legacy' || principal.kind === 'token' ? 'client' : 'operator';
}
