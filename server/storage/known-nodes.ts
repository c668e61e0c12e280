/** Which servers work on this database, for whoever has met one. */
import type { Postgres, Statement } from './postgres.js';

const HAS: Statement = { name: 'node_has', text: `SELECT FROM node WHERE id::text = $1` };

export class KnownNodes {
  constructor(private readonly postgres: Postgres) {}

  /** Whether a node of this id works on this database, or did not long ago. */
  async has(nodeId: string): Promise<boolean> {
    return (await this.postgres.rows(HAS, [nodeId])).length > 0;
  }
}
