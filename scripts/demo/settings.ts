/**
 * The settings of a demo: those of the environment, but for where the data is. It makes users, an administrator among them, and
 * tasks, which no database of anybody else should get.
 */
export function demoSettings(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return {
    TASKDASH_HEARTBEAT_TTL: '15s',
    TASKDASH_LOG_LEVEL: 'warn',
    ...env,
    TASKDASH_ADMIN_USERNAME: 'root',
    TASKDASH_DATA_DIR: '.taskdash-demo',
    TASKDASH_DATABASE_URL: undefined,
  };
}
