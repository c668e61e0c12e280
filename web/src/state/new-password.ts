/** The fewest characters of a new password; the server holds the same limit. */
export const MIN_PASSWORD_LENGTH = 8;

/** What is wrong with a wish for a new password, as far as the page can tell; empty when nothing is. */
export function checkNewPassword(
  current: string,
  wanted: string,
  repeated: string,
): '' | 'short' | 'same' | 'different' {
  if ([...wanted].length < MIN_PASSWORD_LENGTH) return 'short';
  if (wanted === current) return 'same';
  return wanted === repeated ? '' : 'different';
}
