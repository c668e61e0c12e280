import { visibleJson } from '../i18n/visible-text.js';

/** How any service registers a task over HTTP: a command to copy. */
export function registerExample(origin: string, user: string, groupId: string): string {
  const task = { id: `example-of-${user}`, name: 'example', user, groupId, status: 'running' };
  return [
    `curl ${origin}/taskdash.task.v1.TaskService/RegisterTask \\`,
    `  -H 'content-type: application/json' \\`,
    `  -H "authorization: Bearer $TASKDASH_TOKEN" \\`,
    `  -d '${visibleJson(JSON.stringify({ task })).replaceAll("'", `'\\''`)}'`,
  ].join('\n');
}
