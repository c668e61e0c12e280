import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BadRequestSchema, ErrorInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.js';
import { ERROR_CATALOGUE, TaskDashError, type ErrorCode } from '../../server/domain/errors.js';
import { describeError } from '../../server/transports/rpc/errors.js';
import { statusOf } from '../../server/transports/grpc-status.js';
import { requestInvalid } from '../../server/transports/rpc/convert.js';

/** Clients of gRPC take 8 kB of headers; what else is in them, and what proxies add, has the rest. */
const MAX_BYTES = 6_144;

/** What an error measures in the trailers of gRPC, as HTTP/2 counts headers. */
function travelling(error: TaskDashError): number {
  const { code, details, metadata } = statusOf(describeError(error));
  const headers = { ...metadata.toHttp2Headers(), 'grpc-status': String(code), 'grpc-message': encodeURI(details) };
  return Object.entries(headers).reduce((sum, [name, value]) => sum + name.length + String(value).length + 32, 0);
}

const piece = fc.oneof(
  fc.constantFrom('任', '🚀', '\ud83d', '\ude80', '%', ' ', '"', '\n', '\0', '\u0300', 'ü', 'a'),
  fc.string({ unit: 'binary', maxLength: 3 }),
);
const text = fc
  .tuple(fc.array(piece, { minLength: 1, maxLength: 8 }), fc.integer({ min: 0, max: 400 }))
  .map(([pieces, times]) => pieces.join('').repeat(times));
const violation = fc.record({ field: text, description: text });
const code = fc.constantFrom(...(Object.keys(ERROR_CATALOGUE) as ErrorCode[]));

describe('an error', () => {
  it('measures less than clients of gRPC take, whatever its texts are', () => {
    const violations = fc.array(violation, { maxLength: 40 });
    fc.assert(
      fc.property(code, text, violations, fc.nat(), (reason, message, broken, retryAfterMs) => {
        const error = new TaskDashError(reason, { message, violations: broken, retryAfterMs });
        expect(travelling(error)).toBeLessThan(MAX_BYTES);
      }),
    );
  });

  it('says its sentence, cut between two characters where it is too long', () => {
    fc.assert(
      fc.property(text, (message) => {
        const { rawMessage } = describeError(new TaskDashError('REQUEST_INVALID', { message }));
        const sent = message.toWellFormed();
        if (rawMessage === sent) return;
        expect(rawMessage.isWellFormed()).toBe(true);
        expect(rawMessage.endsWith('…')).toBe(true);
        const kept = [...rawMessage].slice(0, -1);
        expect(kept).toEqual([...sent].slice(0, kept.length));
        expect(kept.length).toBeGreaterThan(130);
      }),
    );
  });

  it('of ordinary length is told whole, with each violation', () => {
    const broken = ['name', 'url', 'user', 'group_id', 'description', 'status', 'start_time', 'stop_time'].map(
      (field) => ({ field: `tasks[999].${field}`, description: 'must have at most 256 characters, has 100000' }),
    );
    const error = requestInvalid(broken);
    const described = describeError(error);
    expect(described.rawMessage).toBe(error.message);
    expect(described.findDetails(BadRequestSchema)[0]?.fieldViolations).toMatchObject(broken);
    expect(described.findDetails(ErrorInfoSchema)[0]?.reason).toBe('REQUEST_INVALID');
  });
});
