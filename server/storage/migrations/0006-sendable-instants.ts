import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Instants for which the contracts have no form are none: Go's zero time, and what a zone pushed beyond the year 9999. */
export class SendableInstants0006 implements MigrationInterface {
  readonly name = 'SendableInstants0000000000006';

  async up(queryRunner: QueryRunner): Promise<void> {
    for (const column of ['started_at', 'stopped_at']) {
      await queryRunner.query(`UPDATE task SET ${column} = NULL
  WHERE ${column} < '0001-01-02 00:00:00+00' OR ${column} >= '10000-01-01 00:00:00+00'`);
    }
  }

  async down(): Promise<void> {
    // The texts are still there, and nothing else was known.
  }
}
