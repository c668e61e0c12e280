import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RpcRig } from '../support/rpc-rig.js';

const SCRIPT = `console.log(${JSON.stringify('x'.repeat(1_000))});`;
const PAGE = '<!doctype html><title>TaskDash</title>';

let folder: string;
let rig: RpcRig;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'page-'));
  await mkdir(join(folder, 'assets'));
  await writeFile(join(folder, 'index.html'), PAGE);
  await writeFile(join(folder, 'favicon.svg'), '<svg/>');
  await writeFile(join(folder, 'assets/app-1a2b.js'), SCRIPT);
  await writeFile(join(folder, 'assets/app-1a2b.js.br'), brotliCompressSync(SCRIPT));
  await writeFile(join(folder, 'assets/app-1a2b.js.gz'), gzipSync(SCRIPT));
  await writeFile(join(folder, 'assets/gone-3c4d.js'), SCRIPT);
  rig = await RpcRig.start({ pageFolder: folder });
});
afterAll(async () => {
  await rig.stop();
  await rm(folder, { recursive: true });
});

function get(path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Response> {
  return fetch(rig.http.address + path, { method, headers, signal: AbortSignal.timeout(5_000) });
}

describe('a file of the page', () => {
  it.each([
    ['/', 'text/html; charset=utf-8', 'no-cache', PAGE],
    ['/index.html', 'text/html; charset=utf-8', 'no-cache', PAGE],
    ['/favicon.svg?v=1', 'image/svg+xml', 'no-cache', '<svg/>'],
    ['/assets/app-1a2b.js', 'text/javascript; charset=utf-8', 'public, max-age=31536000, immutable', SCRIPT],
  ])('%s has its type, and says how long it may be kept', async (path, type, kept, text) => {
    const answer = await get(path);
    expect([answer.status, answer.headers.get('content-type'), answer.headers.get('cache-control')]).toEqual([
      200,
      type,
      kept,
    ]);
    expect(await answer.text()).toBe(text);
  });

  it.each([
    ['br, gzip', 'br'],
    ['gzip, deflate, br', 'br'],
    ['gzip', 'gzip'],
    ['br;q=0, gzip;q=0.5', 'gzip'],
    ['identity', null],
    ['', null],
  ])('goes to who accepts %j as %s', async (accepted, coding) => {
    const answer = await get('/assets/app-1a2b.js', { 'accept-encoding': accepted });
    expect(answer.headers.get('content-encoding')).toBe(coding);
    expect(answer.headers.get('vary')).toBe('Accept-Encoding');
    expect(await answer.text()).toBe(SCRIPT);
  });

  it.each(['/', '/tasks/133', '/favicon.svg', '/assets/app-1a2b.js'])(
    '%s is not sent again to who has it, and the copy keeps its rules',
    async (path) => {
      const first = await get(path);
      const etag = first.headers.get('etag') ?? '';
      expect(etag).toMatch(/^"[\w-]{43}"$/);
      for (const known of [etag, `W/${etag}`, `"other", ${etag}`]) {
        const again = await get(path, { 'if-none-match': known });
        expect([again.status, await again.text()]).toEqual([304, '']);
        for (const name of ['etag', 'cache-control', 'vary', 'content-security-policy'])
          expect(again.headers.get(name), name).toBe(first.headers.get(name));
      }
      expect((await get(path, { 'if-none-match': '"other"' })).status).toBe(200);
    },
  );

  it('is told of without being sent', async () => {
    const answer = await get('/assets/app-1a2b.js', { 'accept-encoding': 'identity' }, 'HEAD');
    expect([answer.status, answer.headers.get('content-length'), await answer.text()]).toEqual([
      200,
      String(SCRIPT.length),
      '',
    ]);
  });

  it.each(['bytes=2-1', 'bytes=-1', 'bytes=99999-', 'bytes=0-0,2-3', 'nonsense'])(
    'is sent whole to who asks for the part %s',
    async (range) => {
      const answer = await get('/favicon.svg', { range });
      expect([answer.status, await answer.text()]).toEqual([200, '<svg/>']);
    },
  );

  it('is served although it is gone from the disk, as when a new build is made', async () => {
    await rm(join(folder, 'assets/gone-3c4d.js'));
    expect(await (await get('/assets/gone-3c4d.js')).text()).toBe(SCRIPT);
  });
});

describe('another method than GET and HEAD', () => {
  it.each(['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH'])(
    '%s is refused, with those that are answered',
    async (method) => {
      const answer = await get('/tasks/133', {}, method);
      expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
    },
  );

  it('of a service that does not exist finds nothing', async () => {
    expect((await get('/taskdash.task.v1.TaskService/Nonsense', {}, 'POST')).status).toBe(404);
  });
});

describe('the addresses of operators', () => {
  it.each(['/healthz/', '/readyz/', '/metrics/', '/readyz?verbose'])('are no view of the page: %s', async (path) => {
    expect((await get(path)).headers.get('content-type')).toMatch(/^text\/plain/);
  });
});
