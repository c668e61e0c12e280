/** The change feed in memory: the event with id n stands at index n − 1. */
import { TaskDashError } from '../../server/domain/errors.js';
import type { FeedEvent, FeedPosition, FeedStore, PageLimits } from '../../server/domain/ports.js';
import { positionAfter } from '../../server/domain/task-feed.js';
import type { MemoryTaskDatabase } from './memory-task-store.js';
import { withinLimits } from './page-limits.js';

export class MemoryFeedStore implements FeedStore {
  constructor(private readonly database: Pick<MemoryTaskDatabase, 'history'>) {}

  head(): Promise<FeedPosition> {
    return Promise.resolve(this.#placeAfter(this.database.history.length));
  }

  after(position: FeedPosition, limits: PageLimits, maxBehind: number): Promise<FeedEvent[]> {
    const { history } = this.database;
    if (history.length - position.id > maxBehind) return refused('RESUME_TOKEN_EXPIRED');
    if (position.id > 0 && this.#placeAfter(position.id).batch !== position.batch)
      return refused('RESUME_TOKEN_INVALID');
    return Promise.resolve(withinLimits(history.slice(position.id), limits, ({ task }) => task));
  }

  #placeAfter(id: number): FeedPosition {
    const event = this.database.history[id - 1];
    return event ? positionAfter(event) : { id: 0, batch: '' };
  }
}

function refused(code: 'RESUME_TOKEN_EXPIRED' | 'RESUME_TOKEN_INVALID'): Promise<never> {
  return Promise.reject(new TaskDashError(code));
}
