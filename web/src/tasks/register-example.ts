import { visible, visibleJson } from '../i18n/visible-text.js';

/** How any service registers a task over HTTP: a command to copy. */
export function registerExample(origin: string, user: string, groupId: string): string {
  const task = { id: `example-of-${user}`, name: 'example', user, groupId, status: 'running' };
  return [
    `curl ${origin}/taskdash.task.v1.TaskService/RegisterTask \\`,
    `  -H 'content-type: application/json' \\`,
    `  -H "authorization: Bearer $TASKDASH_TOKEN" \\`,
    `  -d ${quoted(visibleJson(JSON.stringify({ task })))}`,
  ].join('\n');
}

/** How an administrator makes the token for it. */
export function tokenCommand(groupId: string): string {
  const group = visible(groupId);
  return `npx taskdash token create example --group ${/^[\w.@%+:,/-]+$/.test(group) ? group : quoted(group)}`;
}

/** A text as shells take it. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
