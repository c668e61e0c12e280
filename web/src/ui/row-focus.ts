/** The keyboard's place in the table: the focus is on the link of a row, which names it. */

interface RowPlace {
  readonly rowId: string;
  readonly index: number;
}

function links(): HTMLElement[] {
  return [...document.querySelectorAll<HTMLElement>('a[data-row]')];
}

/** The row that has the focus, if one has. */
export function focusedRow(): RowPlace | undefined {
  const index = links().findIndex((link) => link === document.activeElement);
  const rowId = links()[index]?.dataset['row'];
  return rowId === undefined ? undefined : { rowId, index };
}

/** Puts the focus on a row; if it is gone, on the row at its former place. */
export function focusRow({ rowId, index }: RowPlace): void {
  const all = links();
  const link = all.find((candidate) => candidate.dataset['row'] === rowId) ?? all[Math.min(index, all.length - 1)];
  link?.focus({ preventScroll: true });
  link?.scrollIntoView({ block: 'nearest' });
}

/** Moves the focus by some rows; from outside of the table, to its first row. */
export function stepRow(by: number): void {
  const all = links();
  const index = Math.max(0, Math.min(all.length - 1, (focusedRow()?.index ?? -by) + by));
  const rowId = all[index]?.dataset['row'];
  if (rowId !== undefined) focusRow({ rowId, index });
}
