/** The page: the files of its build, and its start document for every address that is a view of it. */
import { existsSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import sirv from 'sirv';

/** Addresses that are never a view of the page: built files, services, and files beside the start document. */
const NO_VIEW = [/^\/assets\//, /^\/(taskdash|grpc|google)\./, /^\/[^/?]+\.\w+(\?|$)/];

/** Answers a request for the page; 404 in plain words for what is none of it. */
export type PageHandler = (request: IncomingMessage, response: ServerResponse) => void;

/** Serves the build in `folder`. Built files carry a hash in their name and may be kept; everything else is asked for anew. */
export function createPageHandler(folder: string): PageHandler {
  if (!existsSync(join(folder, 'index.html'))) {
    return (_request, response) => plain(response, 503, 'The page is not built. Run `npm run build` and start again.');
  }
  const serve = sirv(folder, {
    etag: true,
    // The build has each text compressed beside it; nothing is compressed while somebody waits.
    brotli: true,
    gzip: true,
    setHeaders: (response, path) =>
      response.setHeader(
        'Cache-Control',
        path.startsWith('/assets/') ? 'public, max-age=31536000, immutable' : 'no-cache',
      ),
  });
  return (request, response) => {
    if (request.method !== 'GET' && request.method !== 'HEAD')
      return plain(response, 404, 'There is no such method here.');
    serve(request, response, () => {
      const path = request.url ?? '/';
      if (NO_VIEW.some((pattern) => pattern.test(path)))
        return plain(response, 404, 'There is nothing at this address.');
      request.url = '/';
      serve(request, response, () => plain(response, 404, 'There is nothing at this address.'));
    });
  };
}

/** A short answer in plain text. */
export function plain(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store' });
  response.end(`${text}\n`);
}
