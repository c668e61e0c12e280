/**
 * What a watch tells, as messages. A change is the same for everybody who sees it, save the resume token: its message and
 * its bytes are made once, and kept while it is likely that others are told too.
 */
import { create, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import {
  TaskChangeSchema,
  WatchTasksResponseSchema,
  type TaskChange,
} from '../../../proto/gen/taskdash/task/v1/task_service_pb.js';
import type { FeedEvent, Log } from '../../domain/ports.js';
import { storedBytesOf } from '../../domain/task.js';
import type { WatchMessage } from '../../domain/task-watch.js';
import { eventMessage, leavingMessage, taskMessage, type MarksOf } from './convert.js';
import { withBytes } from './encoded.js';
import { sendableOr } from './sendable.js';

/** A message of a watch, as a handler yields it. */
export type WatchAnswer = MessageInitShape<typeof WatchTasksResponseSchema>;

/**
 * Watchers are told in turns, some behind others; whoever is further behind has the message made anew. Each keeps the record
 * and its bytes.
 */
const MAX_KEPT = { messages: 2_000, bytes: 2 * 1024 * 1024 };

const { resumeToken: TOKEN, change: CHANGE } = WatchTasksResponseSchema.field;

/** A change, and its part of the bytes as soon as somebody wanted them. */
interface Told {
  readonly change: TaskChange;
  bytes?: Uint8Array;
}

export class WatchMessages {
  /** For those who see the task before and after the change, for those whose sight it came into, and whose sight it left. */
  readonly #seen = new KeptMessages();
  readonly #came = new KeptMessages();
  readonly #left = new KeptMessages();

  constructor(
    private readonly marksOf: MarksOf,
    private readonly log: Log,
  ) {}

  /** The message to send; undefined for a change that cannot be sent, which the log tells once. */
  answer(message: WatchMessage): WatchAnswer | undefined {
    const { resumeToken } = message;
    switch (message.kind) {
      case 'snapshot':
        return { resumeToken, message: { case: 'snapshot', value: { resumed: message.resumed } } };
      case 'idle':
        return { resumeToken, message: { case: 'idle', value: {} } };
      case 'change': {
        const told = message.task ? this.#tellOfTask(message) : this.#tellOfLeaving(message.source);
        if (!told) return undefined;
        const answer = { resumeToken, message: { case: 'change' as const, value: told.change } };
        return withBytes(answer, () => bytesOf(resumeToken, told));
      }
    }
  }

  #tellOfTask({ event, source }: Extract<WatchMessage, { kind: 'change' }>): Told | undefined {
    const told = event === source.event ? this.#seen : this.#came;
    return this.#kept(told, source, () => {
      return create(TaskChangeSchema, { event: eventMessage(event), task: taskMessage(source.task, this.marksOf) });
    });
  }

  #tellOfLeaving(source: FeedEvent): Told | undefined {
    return this.#kept(this.#left, source, () => create(TaskChangeSchema, { event: leavingMessage(source.event) }));
  }

  #kept(told: KeptMessages, source: FeedEvent, make: () => TaskChange): Told | undefined {
    return told.get(source, () => sendableOr<Told | undefined>(this.log, undefined, () => ({ change: make() })));
  }
}

/** The latest messages; undefined for those that cannot be sent. */
class KeptMessages {
  /** Oldest first. */
  readonly #told = new Map<FeedEvent, Told | undefined>();
  #bytes = 0;

  get(source: FeedEvent, make: () => Told | undefined): Told | undefined {
    if (this.#told.has(source)) return this.#told.get(source);
    const made = make();
    this.#told.set(source, made);
    this.#bytes += storedBytesOf(source.task);
    for (const oldest of this.#told.keys()) {
      if (this.#told.size <= MAX_KEPT.messages && this.#bytes <= MAX_KEPT.bytes) break;
      this.#told.delete(oldest);
      this.#bytes -= storedBytesOf(oldest.task);
    }
    return made;
  }
}

/** A message on the wire is its fields one after the other: the token of this watcher, then the change of all. */
function bytesOf(resumeToken: string, told: Told): Buffer {
  told.bytes ??= new BinaryWriter()
    .tag(CHANGE.number, WireType.LengthDelimited)
    .bytes(toBinary(TaskChangeSchema, told.change))
    .finish();
  const token = new BinaryWriter().tag(TOKEN.number, WireType.LengthDelimited).string(resumeToken).finish();
  return Buffer.concat([token, told.bytes]);
}
