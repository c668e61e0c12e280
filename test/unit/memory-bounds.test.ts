import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { MAX_ARRIVING, MAX_UNSENT } from '../../server/transports/rpc/limits.js';
import { DEFAULT_TCPX_LIMITS } from '../../server/transports/tcpx/limits.js';

const MIB = 1024 * 1024;
const page = readFileSync(new URL('../../docs/security.md', import.meta.url), 'utf8');
const [, section = ''] = /### What all of it may keep\n([^]*?)\n#/.exec(page) ?? [];
const rows = [...section.matchAll(/^\| ([^|]+?) +\| (\d+) +\|$/gm)].map(
  ([, what = '', mib]) => [what, Number(mib)] as const,
);

function told(beginning: string): number | undefined {
  return rows.find(([what]) => what.startsWith(beginning))?.[1];
}

describe('what a server may keep', () => {
  it('is told as it is bounded', () => {
    expect(told('messages of gRPC and HTTP that arrive')).toBe(MAX_ARRIVING.together / MIB);
    expect(told('their answers that are not taken')).toBe(MAX_UNSENT.together / MIB);
    expect(told('legacy frames that are not whole')).toBe(DEFAULT_TCPX_LIMITS.maxIncompleteBytes / MIB);
    expect(told('legacy requests under way')).toBe(DEFAULT_TCPX_LIMITS.maxRequestBytes / MIB);
    expect(told('legacy replies that are not taken')).toBe(DEFAULT_TCPX_LIMITS.maxReplyBytes / MIB);
  });

  it('is less than 400 MiB, with what the server takes that has nothing to do', () => {
    const idle = Number(/takes some (\d+) MiB/.exec(section)?.[1]);
    const kept = rows.filter(([what]) => !what.startsWith('together')).reduce((sum, [, mib]) => sum + mib, 0);
    expect(idle + kept).toBe(told('together'));
    expect(idle + kept).toBeLessThan(400);
  });
});
