import { expect, it } from 'vitest';
import { demoSettings } from '../../scripts/demo/settings.js';
import { readConfig } from '../../server/config.js';

it('a demo keeps to a database of its own, whatever the environment says, and takes its other settings', () => {
  const config = readConfig(
    demoSettings({
      TASKDASH_DATABASE_URL: 'postgres://taskdash@db.example/taskdash',
      TASKDASH_DATA_DIR: '/var/lib/taskdash',
      TASKDASH_HTTP_PORT: '9090',
    }),
  );
  expect(config).toMatchObject({ databaseUrl: undefined, dataDir: '.taskdash-demo', httpPort: 9090 });
});
