/** The change feed in memory. Everything commits in order here, so a mark is how many events there were. */
import { TaskDashError } from '../../server/domain/errors.js';
import type { FeedEvent, FeedMark, FeedStore } from '../../server/domain/ports.js';
import type { MemoryTaskDatabase } from './memory-task-store.js';

export class MemoryFeedStore implements FeedStore {
  constructor(private readonly database: Pick<MemoryTaskDatabase, 'history'>) {}

  mark(): Promise<FeedMark> {
    return Promise.resolve(`seen:${this.database.history.length}`);
  }

  reaches(later: FeedMark, earlier: FeedMark): boolean {
    return seenBy(later) >= seenBy(earlier);
  }

  async between(
    from: FeedMark,
    until: FeedMark | undefined,
    afterId: number,
    limit: number,
  ): Promise<{ until: FeedMark; events: FeedEvent[] }> {
    const end = until ?? (await this.mark());
    const total = this.database.history.length;
    if (Math.max(seenBy(from), seenBy(end)) > total) throw new TaskDashError('RESUME_TOKEN_INVALID');
    const events = this.database.history.slice(seenBy(from), seenBy(end)).filter(({ event }) => event.id > afterId);
    return { until: end, events: events.slice(0, limit) };
  }
}

function seenBy(mark: FeedMark): number {
  const match = /^seen:(\d{1,15})$/.exec(mark);
  if (!match) throw new TaskDashError('RESUME_TOKEN_INVALID');
  return Number(match[1]);
}
