import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Since when a task is only believed to be its session's, and the way from an address to its sessions, open ones too. */
export class ReturnsByAddress0007 implements MigrationInterface {
  readonly name = 'ReturnsByAddress0000000000007';

  async up(queryRunner: QueryRunner): Promise<void> {
    for (const table of ['task', 'task_event']) {
      await queryRunner.query(`ALTER TABLE ${table} ADD COLUMN unconfirmed_since timestamptz(3)`);
    }
    // Who had claimed before this version is taken for one that had.
    await queryRunner.query('ALTER TABLE session ADD COLUMN has_claimed boolean NOT NULL DEFAULT true');
    await queryRunner.query('ALTER TABLE session ALTER COLUMN has_claimed DROP DEFAULT');
    await queryRunner.query('DROP INDEX session_lost');
    await queryRunner.query('CREATE INDEX session_address ON session (address, silent_since)');
  }

  async down(queryRunner: QueryRunner): Promise<void> {
    await queryRunner.query('ALTER TABLE session DROP COLUMN has_claimed');
    await queryRunner.query('DROP INDEX session_address');
    await queryRunner.query(`CREATE INDEX session_lost ON session (address, silent_since) WHERE state <> 'open'`);
    for (const table of ['task_event', 'task']) {
      await queryRunner.query(`ALTER TABLE ${table} DROP COLUMN unconfirmed_since`);
    }
  }
}
