/** AuthService. */
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  Role as RoleMessage,
  type AuthService,
  type UserSchema,
} from '../../../proto/gen/taskdash/auth/v1/auth_service_pb.js';
import type { Role } from '../../domain/access.js';
import type { Authenticator } from '../../domain/authenticator.js';
import { TaskDashError } from '../../domain/errors.js';
import type { UserRecord } from '../../domain/ports.js';
import type { Calls } from './call.js';
import {
  callerKey,
  credentialsOf,
  principalOrNobody,
  refuseCrossSite,
  requireSomebody,
  setSessionCookie,
} from './guard.js';

const ROLES: Readonly<Record<Role, RoleMessage>> = {
  member: RoleMessage.MEMBER,
  viewer: RoleMessage.VIEWER,
  manager: RoleMessage.MANAGER,
};

/** The implementation of AuthService, for every door. */
export function createAuthHandlers(options: { auth: Authenticator; calls: Calls }): ServiceImpl<typeof AuthService> {
  const { auth, calls } = options;
  return {
    login: (request, context) =>
      calls.unary(context, async () => {
        refuseCrossSite(context);
        const { address } = context.values.get(callerKey);
        const userAgent = context.requestHeader.get('user-agent') ?? '';
        const login = await auth.login(request.username, request.password, { address, userAgent });
        if (!request.issueToken) setSessionCookie(context, login.token, login.expiresAt);
        return {
          user: userMessage(login.user),
          token: request.issueToken ? login.token : '',
          expiresAt: timestampFromDate(login.expiresAt),
        };
      }),

    logout: (_request, context) =>
      calls.unary(context, async () => {
        refuseCrossSite(context);
        await auth.logout(credentialsOf(context));
        setSessionCookie(context, '', new Date(0));
        return {};
      }),

    getCurrentUser: (_request, context) =>
      calls.unary(context, async () => {
        const principal = await principalOrNobody(auth, context);
        const user = principal?.kind === 'user' ? { user: userMessage(await auth.describe(principal)) } : {};
        return { ...user, loginMethods: ['password'] };
      }),

    changePassword: (request, context) =>
      calls.unary(context, async () => {
        const principal = await requireSomebody(auth, context);
        if (principal.kind !== 'user')
          throw new TaskDashError('PERMISSION_DENIED', { message: 'Only people have passwords.' });
        await auth.changePassword(principal, credentialsOf(context), request.currentPassword, request.newPassword);
        return {};
      }),
  };
}

function userMessage(user: UserRecord): MessageInitShape<typeof UserSchema> {
  return {
    id: user.id,
    displayName: user.displayName,
    administrator: user.administrator,
    memberships: [...user.memberships].map(([groupId, role]) => ({ groupId, role: ROLES[role] })),
    mustChangePassword: user.mustChangePassword,
  };
}
