/** How any service registers a task over HTTP: a command to copy. */
export function registerExample(origin: string, user: string, groupId: string): string {
  const task = { id: '130', name: 'zgl', user, groupId, status: 'running', startTime: '2020.07.04' };
  return [
    `curl ${origin}/taskdash.task.v1.TaskService/RegisterTask \\`,
    `  -H 'content-type: application/json' \\`,
    `  -H "authorization: Bearer $TASKDASH_TOKEN" \\`,
    `  -d '${JSON.stringify({ task }).replaceAll("'", `'\\''`)}'`,
  ].join('\n');
}
