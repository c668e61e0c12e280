import { describe, expect, it } from 'vitest';
import {
  BatchRegisterTasksRequestSchema,
  ListTasksRequestSchema,
  UpdateTaskRequestSchema,
} from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { FLAWS } from '../../server/transports/rpc/flaws.js';
import { boundsOf, flawOfJson } from '../../server/transports/rpc/json-scan.js';

const flawOf = (text: string, desc = UpdateTaskRequestSchema as Parameters<typeof boundsOf>[0]) =>
  flawOfJson(Buffer.from(text), boundsOf(desc));

describe('a text that stands for something else', () => {
  it.each([
    ['a list of fields', `{"updateMask":"${','.repeat(2_049)}"}`, UpdateTaskRequestSchema],
    ['by its name in the contract', `{"update_mask" : "${','.repeat(2_049)}"}`, UpdateTaskRequestSchema],
    ['with a name that is escaped', `{"\\u0075pdateMask":"${','.repeat(2_049)}"}`, UpdateTaskRequestSchema],
    ['a number', `{"tasks":[{"id":"a","revision":"${'9'.repeat(65)}"}]}`, BatchRegisterTasksRequestSchema],
    [
      'a number behind others',
      `{"tasks":[{"id":"a","marks":["x","${'9'.repeat(65)}"]}]}`,
      BatchRegisterTasksRequestSchema,
    ],
    ['a time', `{"filter":{"startedFrom":"${'2'.repeat(65)}"}}`, ListTasksRequestSchema],
  ])('is no longer than it can be: %s', (_what, text, desc) => {
    expect(flawOf(text, desc)).toBe(FLAWS.shortText);
  });

  it.each([
    ['all fields', `{"updateMask":"${'description,'.repeat(100)}name"}`],
    [
      'texts that are texts',
      JSON.stringify({ task: { id: 'a', description: ','.repeat(8_192), url: 'x'.repeat(2_048) } }),
    ],
    ['a long name of a field that nobody knows', `{"updateMask":"name","${'x'.repeat(100)}" :"y"}`],
    ['a long text of such a field', `{"nobody":"${'9'.repeat(1_000)}"}`],
    ['the same as the only value', `"${'9'.repeat(1_000)}"`],
  ])('may be as long as it can be: %s', (_what, text) => {
    expect(flawOf(text)).toBeUndefined();
  });
});
