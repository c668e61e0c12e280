/**
 * What operators measure, in Prometheus' form at /metrics. Names and labels: docs/operations.md. Labels have few values:
 * never an id, a user or an address, but for the id and the name of the node itself.
 */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';
import type { LivenessEvents } from './domain/liveness.js';
import type { BatchReport } from './domain/write-batcher.js';
import type { TcpxMetrics } from './transports/tcpx/tcpx-metrics.js';

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** Values that are read when somebody scrapes. */
export interface LiveValues {
  readonly pendingWrites: () => number;
  readonly watchers: () => number;
  readonly sessions: () => number;
  readonly tcpConnections: () => number;
  readonly mayJudge: () => boolean;
}

export class Metrics {
  readonly registry = new Registry();

  readonly calls = new Histogram({
    name: 'taskdash_rpc_duration_seconds',
    help: 'Calls on the gRPC and HTTP doors by door, method and status code; streams count when they end.',
    labelNames: ['door', 'method', 'code'],
    buckets: SECONDS,
    registers: [this.registry],
  });
  readonly openStreams = new Gauge({
    name: 'taskdash_rpc_open_streams',
    help: 'Streams that are open on the gRPC and HTTP doors.',
    labelNames: ['door'],
    registers: [this.registry],
  });
  readonly batchSize = new Histogram({
    name: 'taskdash_write_batch_size',
    help: 'Writes that shared one transaction.',
    buckets: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000],
    registers: [this.registry],
  });
  readonly batchDuration = new Histogram({
    name: 'taskdash_write_batch_duration_seconds',
    help: 'How long a write transaction took, by outcome.',
    labelNames: ['outcome'],
    buckets: SECONDS,
    registers: [this.registry],
  });
  readonly tcpConnections = new Counter({
    name: 'taskdash_tcp_connections_total',
    help: 'Connections of the legacy door by event (opened, closed, refused) and the reason of the latter two.',
    labelNames: ['event', 'reason'],
    registers: [this.registry],
  });
  readonly tcpFrames = new Counter({
    name: 'taskdash_tcp_frames_total',
    help: 'Frames of the legacy door by kind.',
    labelNames: ['kind'],
    registers: [this.registry],
  });
  readonly tcpErrors = new Counter({
    name: 'taskdash_tcp_errors_total',
    help: 'Replies of the legacy door with an error, by errid.',
    labelNames: ['errid'],
    registers: [this.registry],
  });
  readonly tcpBytes = new Counter({
    name: 'taskdash_tcp_bytes_total',
    help: 'Bytes on the legacy door by direction.',
    labelNames: ['direction'],
    registers: [this.registry],
  });
  readonly transitions = new Counter({
    name: 'taskdash_lapsed_tasks_total',
    help: 'Tasks that the registry set to shutdown by itself, by cause.',
    labelNames: ['cause'],
    registers: [this.registry],
  });
  readonly resumed = new Counter({
    name: 'taskdash_resumed_tasks_total',
    help: 'Tasks that came back because their service only reconnected and sent heartbeats.',
    registers: [this.registry],
  });
  readonly adopted = new Counter({
    name: 'taskdash_adopted_sessions_total',
    help: 'Sessions that this node took over from nodes that had ended.',
    registers: [this.registry],
  });
  readonly pauses = new Counter({
    name: 'taskdash_pauses_seconds_total',
    help: 'How long this process stood still; deadlines of sessions were moved by as much.',
    registers: [this.registry],
  });
  readonly leaseLost = new Counter({
    name: 'taskdash_node_lease_lost_total',
    help: 'How often this node lost its lease, and decided no shutdowns until it had held it again for a whole TTL.',
    registers: [this.registry],
  });
  readonly protectionActive = new Gauge({
    name: 'taskdash_protection_active',
    help: '1 while this node expires nothing silent because many sessions fell silent at once.',
    registers: [this.registry],
  });

  readonly node = new Gauge({
    name: 'taskdash_node_info',
    help: 'Which node this is: its id, new at every start, and its name; always 1.',
    labelNames: ['id', 'name'],
    registers: [this.registry],
  });

  /** What liveness reports. */
  readonly liveness: LivenessEvents = {
    onLapsed: (cause, tasks) => this.transitions.inc({ cause }, tasks),
    onResumed: (tasks) => this.resumed.inc(tasks),
    onAdopted: (sessions) => this.adopted.inc(sessions),
    onPaused: (pausedMs) => this.pauses.inc(pausedMs / 1000),
    onLease: (state) => state === 'lost' && this.leaseLost.inc(),
    onProtection: (event) => this.protectionActive.set(event.kind === 'ended' ? 0 : 1),
  };

  /** What the legacy door reports. */
  readonly tcp: TcpxMetrics = {
    connection: (event, reason) => this.tcpConnections.inc({ event, reason }),
    frame: (kind) => this.tcpFrames.inc({ kind }),
    error: (errid) => this.tcpErrors.inc({ errid }),
    bytes: (direction, count) => this.tcpBytes.inc({ direction }, count),
  };

  constructor() {
    collectDefaultMetrics({ register: this.registry });
  }

  /** Adds the values that are read when somebody scrapes; call once, when all parts exist. */
  readLive(live: LiveValues): void {
    this.#gauge('taskdash_pending_writes', 'Registers and updates that wait for the database.', live.pendingWrites);
    this.#gauge('taskdash_watchers', 'Watches that are open on this node.', live.watchers);
    this.#gauge('taskdash_sessions', 'Live sessions of services on this node.', live.sessions);
    this.#gauge('taskdash_tcp_open_connections', 'Connections that are open on the legacy door.', live.tcpConnections);
    this.#gauge(
      'taskdash_node_may_judge',
      '1 while this node may decide shutdowns: it has held its lease for a whole TTL.',
      () => Number(live.mayJudge()),
    );
  }

  /** Notes a finished write batch. */
  onBatch(report: BatchReport): void {
    this.batchSize.observe(report.size);
    this.batchDuration.observe({ outcome: report.failed ? 'failed' : 'committed' }, report.durationMs / 1000);
  }

  /** The answer of /metrics. */
  async render(): Promise<{ contentType: string; body: string }> {
    return { contentType: this.registry.contentType, body: await this.registry.metrics() };
  }

  #gauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name,
      help,
      registers: [this.registry],
      collect() {
        this.set(read());
      },
    });
  }
}
