import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Tasks, their history, and the values that nodes share. */
export class Tasks0001 implements MigrationInterface {
  readonly name = 'Tasks0000000000001';

  async up(queryRunner: QueryRunner): Promise<void> {
    for (const statement of STATEMENTS) await queryRunner.query(statement);
  }

  async down(queryRunner: QueryRunner): Promise<void> {
    await queryRunner.query('DROP TABLE task_event, task, setting');
  }
}

const RECORD = `
  name text COLLATE "C" NOT NULL,
  url text COLLATE "C" NOT NULL,
  user_id text COLLATE "C" NOT NULL,
  group_id text COLLATE "C" NOT NULL,
  description text COLLATE "C" NOT NULL,
  status text COLLATE "C" NOT NULL,
  start_time text COLLATE "C" NOT NULL,
  stop_time text COLLATE "C" NOT NULL,
  addr text COLLATE "C" NOT NULL,
  cause text COLLATE "C" NOT NULL,
  status_before text COLLATE "C" NOT NULL,
  status_changed_at timestamptz(3) NOT NULL,
  created_at timestamptz(3) NOT NULL,
  session_id uuid,
  epoch bigint NOT NULL,
  revision bigint NOT NULL`;

const STATEMENTS = [
  `CREATE TABLE task (
  id text COLLATE "C" NOT NULL CONSTRAINT task_pkey PRIMARY KEY,${RECORD},
  updated_at timestamptz(3) NOT NULL,
  started_at timestamptz(3),
  stopped_at timestamptz(3),
  silent_since timestamptz(3),
  lapsed_session_id uuid
)`,
  'CREATE INDEX task_updated_at ON task (updated_at, id)',
  'CREATE INDEX task_name ON task (name, id)',
  'CREATE INDEX task_status ON task (status, id)',
  'CREATE INDEX task_user ON task (user_id, id)',
  'CREATE INDEX task_group ON task (group_id, id)',
  'CREATE INDEX task_started_at ON task (started_at, id) WHERE started_at IS NOT NULL',
  'CREATE INDEX task_stopped_at ON task (stopped_at, id) WHERE stopped_at IS NOT NULL',
  `CREATE TABLE task_event (
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  seq bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  task_id text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  from_status text COLLATE "C" NOT NULL,
  event_cause text COLLATE "C" NOT NULL,
  actor text COLLATE "C" NOT NULL,
  node text COLLATE "C" NOT NULL,
  at timestamptz(3) NOT NULL,
  gap_ms bigint,
  previous_user_id text COLLATE "C",
  previous_group_id text COLLATE "C",${RECORD},
  CONSTRAINT task_event_pkey PRIMARY KEY (xid, seq)
)`,
  'CREATE INDEX task_event_task ON task_event (task_id, seq)',
  'CREATE TABLE setting (key text COLLATE "C" NOT NULL CONSTRAINT setting_pkey PRIMARY KEY, value bytea NOT NULL)',
];
