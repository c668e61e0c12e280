/** Who can log in to the demo. */
import { randomBytes } from 'node:crypto';
import { withStorage } from '../../server/cli/with-storage.js';
import type { Config } from '../../server/config.js';
import type { Role } from '../../server/domain/access.js';
import { systemClock } from '../../server/domain/clock.js';
import { Users } from '../../server/domain/users.js';
import { Argon2Hasher } from '../../server/identity/argon2-hasher.js';
import { ZxcvbnJudge } from '../../server/identity/zxcvbn-judge.js';

/** Somebody who can log in. */
export interface Person {
  readonly id: string;
  readonly name: string;
  readonly says: string;
  readonly administrator?: boolean;
  readonly groups: Readonly<Record<string, Role>>;
}

export const PEOPLE: readonly Person[] = [
  { id: 'ssx', name: '孙小小', says: 'member of mx: the five tasks of the example', groups: { mx: 'member' } },
  { id: 'lena', name: 'Lena Vogt', says: 'viewer of mx and render', groups: { mx: 'viewer', render: 'viewer' } },
  { id: 'mo', name: 'Mo Chen', says: 'manager of etl', groups: { etl: 'manager' } },
  { id: 'root', name: 'Administrator', says: 'sees everything', administrator: true, groups: {} },
];

/** The group of the services that speak gRPC. */
export const TOKEN_GROUP = 'render';

/** Adds the people, each with a new password, and makes a token for the services that speak gRPC. */
export async function addPeople(config: Config): Promise<{ passwords: ReadonlyMap<string, string>; token: string }> {
  const passwords = new Map<string, string>();
  let token = '';
  await withStorage(config, async (storage) => {
    const users = new Users(storage.identity, new Argon2Hasher(), new ZxcvbnJudge(), systemClock);
    for (const { id, name, administrator = false, groups } of PEOPLE) {
      const password = randomBytes(9).toString('base64url');
      passwords.set(id, password);
      const memberships = new Map(Object.entries(groups));
      await users.add({ id, displayName: name, password, administrator, memberships });
    }
    const name = `demo-${randomBytes(4).toString('hex')}`;
    token = (await users.createToken({ name, groupId: TOKEN_GROUP, scopes: ['register', 'read'] })).secret;
    return 0;
  });
  return { passwords, token };
}
