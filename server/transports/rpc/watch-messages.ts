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
import type { WatchMessage } from '../../domain/task-watch.js';
import { eventMessage, leavingMessage, taskMessage, type MarksOf } from './convert.js';
import { withBytes } from './encoded.js';
import { sendableOr } from './sendable.js';

/** A message of a watch, as a handler yields it. */
export type WatchAnswer = MessageInitShape<typeof WatchTasksResponseSchema>;

/** Watchers are told in turns, some behind others; whoever is further behind has the message made anew. */
const MAX_KEPT = 2_000;

const { resumeToken: TOKEN, change: CHANGE } = WatchTasksResponseSchema.field;

/** A change, and its part of the bytes as soon as somebody wanted them. */
interface Told {
  readonly change: TaskChange;
  bytes?: Uint8Array;
}

export class WatchMessages {
  /** For those who see the task before and after the change, for those whose sight it came into, and whose sight it left. */
  readonly #seen = new Map<FeedEvent, Told | undefined>();
  readonly #came = new Map<FeedEvent, Told | undefined>();
  readonly #left = new Map<FeedEvent, Told | undefined>();

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

  #kept(told: Map<FeedEvent, Told | undefined>, source: FeedEvent, make: () => TaskChange): Told | undefined {
    if (told.has(source)) return told.get(source);
    const made = sendableOr<Told | undefined>(this.log, undefined, () => ({ change: make() }));
    keep(told, source, made);
    return made;
  }
}

function keep(told: Map<FeedEvent, Told | undefined>, source: FeedEvent, made: Told | undefined): void {
  told.set(source, made);
  if (told.size > MAX_KEPT) for (const oldest of told.keys()) if (told.delete(oldest)) break;
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
