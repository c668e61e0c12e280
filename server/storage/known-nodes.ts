/** Which servers work on this database, for whoever has met one, or has a name that another one may have. */
import type { NodeIdentity } from '../domain/liveness-ports.js';
import type { Postgres, Statement } from './postgres.js';

const HAS: Statement = { name: 'node_has', text: `SELECT FROM node WHERE id::text = $1` };
const NAMESAKES: Statement = {
  name: 'node_namesakes',
  text: `SELECT FROM node WHERE name = $1 AND id <> $2 AND lease_until > clock_timestamp()`,
};
const LIVING: Statement = {
  name: 'node_living',
  text: `SELECT id::text AS id, name, greatest(0, extract(epoch FROM clock_timestamp() - renewed_at))::float8 AS "heardAgo"
    FROM node WHERE lease_until > clock_timestamp() ORDER BY name, id`,
};

/** A node whose lease holds, and how many seconds ago it was renewed. */
export interface LivingNode extends NodeIdentity {
  readonly heardAgo: number;
}

export class KnownNodes {
  constructor(private readonly postgres: Postgres) {}

  /** Whether a node of this id works on this database, or did not long ago. */
  async has(nodeId: string): Promise<boolean> {
    return (await this.postgres.rows(HAS, [nodeId])).length > 0;
  }

  living(): Promise<LivingNode[]> {
    return this.postgres.rows<LivingNode>(LIVING, []);
  }

  /** Whether the lease of another node of the same name holds. */
  async hasNamesake({ id, name }: NodeIdentity): Promise<boolean> {
    return (await this.postgres.rows(NAMESAKES, [name, id])).length > 0;
  }
}
