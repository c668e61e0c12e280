/** What to tell operators as long as nobody can administer. */
import type { IdentityStore } from './domain/ports.js';

/** What is wrong and what to do, where there are users and none of them is an administrator who can log in. */
export async function missingAdministrator(
  store: Pick<IdentityStore, 'countUsers' | 'countAdministrators'>,
): Promise<string | undefined> {
  // Before there are users nothing is missing: the first start makes an administrator.
  if ((await store.countAdministrators()) > 0 || (await store.countUsers()) === 0) return undefined;
  return (
    'There is no administrator who can log in, and a start makes none once there are users. ' +
    'Make one: taskdash user add NAME --administrator'
  );
}
