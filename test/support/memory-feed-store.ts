/**
 * The change feed in memory. Everything commits in order here, so a mark is how many events there were, and how many
 * transactions without an event: they move marks on as they do in a real database.
 */
import { TaskDashError } from '../../server/domain/errors.js';
import type { FeedEvent, FeedMark, FeedStore } from '../../server/domain/ports.js';
import type { MemoryTaskDatabase } from './memory-task-store.js';

export class MemoryFeedStore implements FeedStore {
  constructor(private readonly database: Pick<MemoryTaskDatabase, 'history' | 'otherTransactions'>) {}

  mark(): Promise<FeedMark> {
    const { history, otherTransactions } = this.database;
    return Promise.resolve(`seen:${history.length}+${otherTransactions}`);
  }

  reaches(later: FeedMark, earlier: FeedMark): boolean {
    const [one, other] = [seenBy(later), seenBy(earlier)];
    return one.events >= other.events && one.others >= other.others;
  }

  async between(
    from: FeedMark,
    until: FeedMark | undefined,
    afterId: number,
    limit: number,
  ): Promise<{ until: FeedMark; events: FeedEvent[] }> {
    const now = await this.mark();
    const end = until ?? now;
    if (!this.reaches(now, from) || !this.reaches(now, end)) throw new TaskDashError('RESUME_TOKEN_INVALID');
    const between = this.database.history.slice(seenBy(from).events, seenBy(end).events);
    const events = between.filter(({ event }) => event.id > afterId);
    return { until: end, events: events.slice(0, limit) };
  }
}

function seenBy(mark: FeedMark): { events: number; others: number } {
  const match = /^seen:(\d{1,15})\+(\d{1,15})$/.exec(mark);
  if (!match) throw new TaskDashError('RESUME_TOKEN_INVALID');
  return { events: Number(match[1]), others: Number(match[2]) };
}
