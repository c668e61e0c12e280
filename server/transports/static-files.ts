/**
 * The page: the files of its build, and its start document for every address that is a view of it.
 *
 * The build is small and read once. No request touches the disk, so none can reach beyond the build, and a build that is
 * replaced under a running server harms nobody.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { extname, join, relative, sep } from 'node:path';

/** Addresses of services, which a request with a method of theirs may have missed. */
const SERVICE = /^\/(taskdash|grpc|google)\./;
/** Addresses that are never a view of the page: built files, services, and files beside the start document. */
const NO_VIEW = [/^\/assets\//, SERVICE, /^\/[^/?]+\.\w+(\?|$)/];

const START_DOCUMENT = '/index.html';
const TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.ico': 'image/x-icon',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
  '.webmanifest': 'application/manifest+json',
  '.woff2': 'font/woff2',
};
/** The build has each text compressed beside it, under these endings; the smallest first. */
const CODINGS = { '.br': 'br', '.gz': 'gzip' } as const;

/** One form of a file: its bytes, and the headers that they travel with. */
interface Variant {
  readonly body: Buffer;
  readonly headers: Readonly<Record<string, string>>;
}

interface PageFile {
  /** The file as it is. */
  readonly plain: Variant;
  /** Its compressed forms under the names of their codings; the smallest first. */
  readonly coded: readonly (readonly [coding: string, Variant])[];
}

/** Answers a request for the page; 404 in plain words for what is none of it. */
export type PageHandler = (request: IncomingMessage, response: ServerResponse) => void;

/** Serves the build in `folder`. Built files carry a hash in their name and may be kept; everything else is asked for anew. */
export function createPageHandler(folder: string): PageHandler {
  const files = readFiles(folder);
  const start = files.get(START_DOCUMENT);
  if (!start) {
    return (_request, response) => plain(response, 503, 'The page is not built. Run `npm run build` and start again.');
  }
  return (request, response) => {
    const address = request.url ?? '/';
    if (request.method !== 'GET' && request.method !== 'HEAD') return refuseMethod(address, response);
    const file = files.get(address.split('?', 1)[0] ?? '');
    if (file) return send(file, request, response);
    if (NO_VIEW.some((pattern) => pattern.test(address)))
      return plain(response, 404, 'There is nothing at this address.');
    send(start, request, response);
  };
}

/** A short answer in plain text. */
export function plain(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store' });
  response.end(`${text}\n`);
}

/** The files of a folder under their addresses; none where there is no folder. */
function readFiles(folder: string): ReadonlyMap<string, PageFile> {
  const entries = existsSync(folder) ? readdirSync(folder, { recursive: true, withFileTypes: true }) : [];
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const originals = paths.filter((path) => !(extname(path) in CODINGS));
  return new Map(originals.map((path) => [addressOf(relative(folder, path)), readFile(path)]));
}

function addressOf(path: string): string {
  return `/${path.split(sep).map(encodeURIComponent).join('/')}`;
}

function readFile(path: string): PageFile {
  const isHashed = path.includes(`${sep}assets${sep}`);
  const headers = {
    'Content-Type': TYPES[extname(path)] ?? 'application/octet-stream',
    'Cache-Control': isHashed ? 'public, max-age=31536000, immutable' : 'no-cache',
    Vary: 'Accept-Encoding',
  };
  const coded = Object.entries(CODINGS).filter(([ending]) => existsSync(path + ending));
  return {
    plain: variantOf(path, headers),
    coded: coded.map(([ending, name]) => [name, variantOf(path + ending, { ...headers, 'Content-Encoding': name })]),
  };
}

function variantOf(path: string, headers: Variant['headers']): Variant {
  const body = readFileSync(path);
  const hash = createHash('sha256').update(body).digest('base64url');
  return { body, headers: { ...headers, ETag: `"${hash}"` } };
}

function send({ plain, coded }: PageFile, request: IncomingMessage, response: ServerResponse): void {
  const accepted = request.headers['accept-encoding'] ?? '';
  const { body, headers } = coded.find(([coding]) => accepts(accepted, coding))?.[1] ?? plain;
  if (isKnown(request.headers['if-none-match'], headers['ETag'])) response.writeHead(304, headers).end();
  else response.writeHead(200, { ...headers, 'Content-Length': body.length }).end(body);
}

/** Whether Accept-Encoding names a coding, and not with a weight of nothing. */
function accepts(accepted: string, coding: string): boolean {
  return accepted.split(',').some((part) => {
    const [name, weight] = part.trim().split(/\s*;\s*q=/i);
    return name === coding && Number(weight ?? 1) > 0;
  });
}

/** Whether If-None-Match names a version, which it may do weakly. */
function isKnown(names: string | undefined, etag: string | undefined): boolean {
  return names?.split(',').some((name) => name.trim().replace(/^W\//, '') === etag) ?? false;
}

function refuseMethod(address: string, response: ServerResponse): void {
  if (SERVICE.test(address)) return plain(response, 404, 'There is no such method here.');
  response.setHeader('Allow', 'GET, HEAD');
  plain(response, 405, 'Only GET and HEAD are answered here.');
}
