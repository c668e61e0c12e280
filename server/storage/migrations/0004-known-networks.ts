import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The networks that people have logged in from. */
export class KnownNetworks0004 implements MigrationInterface {
  readonly name = 'KnownNetworks0000000000004';

  async up(queryRunner: QueryRunner): Promise<void> {
    await queryRunner.query(`CREATE TABLE known_network (
  user_id text COLLATE "C" NOT NULL CONSTRAINT known_network_user_fkey REFERENCES app_user (id) ON DELETE CASCADE,
  network text COLLATE "C" NOT NULL,
  last_login_at timestamptz(3) NOT NULL,
  CONSTRAINT known_network_pkey PRIMARY KEY (user_id, network)
)`);
  }

  async down(queryRunner: QueryRunner): Promise<void> {
    await queryRunner.query('DROP TABLE known_network');
  }
}
