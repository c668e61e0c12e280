/** The address as a link that may be followed, or undefined: only http and https ever become links. */
export function safeLink(url: string): string | undefined {
  if (!URL.canParse(url)) return undefined;
  const { protocol, href } = new URL(url);
  return protocol === 'http:' || protocol === 'https:' ? href : undefined;
}

/** A link as people read it: without what is the same for all. */
export function shortLink(url: string): string {
  return url.replace(/^https?:\/\//i, '').replace(/\/$/, '');
}
