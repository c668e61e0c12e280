import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Events are numbered in the order of their commits, and name the batch that wrote them. */
export class CommitOrder0005 implements MigrationInterface {
  readonly name = 'CommitOrder0000000000005';

  async up(queryRunner: QueryRunner): Promise<void> {
    for (const statement of STATEMENTS) await queryRunner.query(statement);
  }

  async down(queryRunner: QueryRunner): Promise<void> {
    await queryRunner.query('DROP INDEX task_event_batch');
    await queryRunner.query('ALTER TABLE task_event DROP CONSTRAINT task_event_pkey');
    await queryRunner.query(`ALTER TABLE task_event DROP COLUMN lane, DROP COLUMN batch, DROP COLUMN leads,
  ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id(), ADD CONSTRAINT task_event_pkey PRIMARY KEY (xid, seq)`);
  }
}

const STATEMENTS = [
  'ALTER TABLE task_event DROP CONSTRAINT task_event_pkey',
  // What was written before belongs to no batch. The defaults keep the table from being written anew.
  `ALTER TABLE task_event DROP COLUMN xid,
  ADD COLUMN lane bigint NOT NULL DEFAULT 0,
  ADD COLUMN batch bigint NOT NULL DEFAULT 0,
  ADD COLUMN leads boolean NOT NULL DEFAULT false`,
  'ALTER TABLE task_event ADD CONSTRAINT task_event_pkey PRIMARY KEY (seq)',
  'ALTER TABLE task_event ALTER COLUMN lane DROP DEFAULT, ALTER COLUMN batch DROP DEFAULT, ALTER COLUMN leads DROP DEFAULT',
  'CREATE UNIQUE INDEX task_event_batch ON task_event (lane, batch) WHERE leads',
  `DELETE FROM setting WHERE key = 'feed.generation'`,
];
