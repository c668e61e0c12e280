import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ERRID_MESSAGES } from '../../server/domain/errors.js';
import { TASK_LIMITS } from '../../server/domain/task.js';
import {
  DEFAULT_TCPX_LIMITS,
  MAX_HEADER_BYTES,
  MAX_JSON,
  MAX_STRANGER_FRAME_BYTES,
} from '../../server/transports/tcpx/limits.js';
import { AUTHENTICATE_ID, HEARTBEAT_ID, REQUEST_ID } from '../../server/transports/tcpx/messages.js';
import { heartbeatFrame } from '../support/tcpx-frames.js';

const page = readFileSync(new URL('../../docs/legacy-tcp.md', import.meta.url), 'utf8');

/** The rows of all tables, cell by cell. */
const rows = page
  .split('\n')
  .filter((line) => line.startsWith('| '))
  .map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );

function row(first: string): string[] {
  const found = rows.find(([cell]) => cell === first);
  if (!found) throw new Error(`no row begins with ${first}`);
  return found;
}

describe('docs/legacy-tcp.md', () => {
  it('tells the limits of the texts as the domain has them', () => {
    const told = Object.fromEntries(
      rows
        .filter(([cell]) => cell?.startsWith('`') && /^[`a-z_, ]+$/.test(cell))
        .flatMap(([fields = '', limit = '']) =>
          [...fields.matchAll(/`(\w+)`/g)].map(([, field]) => [field, Number.parseInt(limit, 10)]),
        )
        .filter(([, limit]) => !Number.isNaN(limit)),
    ) as Record<string, number>;
    expect(told).toEqual(TASK_LIMITS);
  });

  it('tells the error numbers with their texts', () => {
    for (const [errid, text] of Object.entries(ERRID_MESSAGES)) expect(page).toContain(`${errid} \`${text}\``);
  });

  it('tells the message ids', () => {
    const told = rows.map(([cell]) => Number(cell)).filter((id) => id > 0);
    expect(new Set(told)).toEqual(new Set([4, REQUEST_ID, HEARTBEAT_ID, AUTHENTICATE_ID]));
  });

  it('tells the defaults of the limits', () => {
    const limits = DEFAULT_TCPX_LIMITS;
    expect(row('length of a frame')[1]).toBe(`${limits.maxFrameBytes / 1024 ** 2} MiB`);
    expect(row('time to complete a frame, or to take the last replies')[1]).toBe(`${limits.frameTimeoutMs / 1000} s`);
    expect(row('connections')[1]?.replace(' ', '')).toBe(`${limits.maxConnections}`);
    expect(row('connections from one address')[1]?.replace(' ', '')).toBe(`${limits.maxConnectionsPerAddress}`);
    const unanswered = `${limits.maxUnanswered}, ${limits.maxUnansweredBytes / 1024} KiB together (one may be larger)`;
    expect(row('unanswered requests of one connection')[1]).toBe(unanswered);
    expect(row('replies that a client has not taken before it is read no further')[1]).toBe(
      `${limits.maxUnreadReplyBytes / 1024} KiB beside the kernel's`,
    );
    expect(row('time to close after the server has said goodbye')[1]).toBe(`${limits.lingerMs / 1000} s`);
    const together = (bytes: number) => `${bytes / 1024 ** 2} MiB`;
    expect(page).toContain(`more than ${together(limits.maxIncompleteBytes)}`);
    expect(row('requests under way of all connections together')[1]).toContain(together(limits.maxRequestBytes));
    expect(row('such replies of all connections together, and finds under way (64 KiB each)')[1]).toContain(
      together(limits.maxReplyBytes),
    );
    expect(row('length of a header')[1]).toBe(`${MAX_HEADER_BYTES / 1024} KiB`);
    expect(row('length of a frame before a token where one is required, and of a token')[1]).toBe(
      `${MAX_STRANGER_FRAME_BYTES / 1024} KiB`,
    );
    expect(row('elements of a header or body; how deep they are nested')[1]).toBe(
      `${MAX_JSON.elements.toLocaleString('en')}; ${MAX_JSON.nesting}`,
    );
  });

  it('tells the bytes of a heartbeat', () => {
    const [, hex = ''] = /`([0-9a-f ]+)` and `null`/.exec(page) ?? [];
    expect(hex.replaceAll(' ', '')).toBe(heartbeatFrame().toString('hex', 0, 16));
  });
});
