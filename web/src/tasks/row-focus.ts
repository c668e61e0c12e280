/** The keyboard's place in the table: the focus is on the link of a row. */

interface RowPlace {
  readonly taskId: string;
  readonly index: number;
}

function links(): HTMLElement[] {
  return [...document.querySelectorAll<HTMLElement>('a[data-task]')];
}

/** The row that has the focus, if one has. */
export function focusedRow(): RowPlace | undefined {
  const index = links().findIndex((link) => link === document.activeElement);
  const taskId = links()[index]?.dataset['task'];
  return taskId === undefined ? undefined : { taskId, index };
}

/** Puts the focus on the row of a task; if it is gone, on the row at its former place. */
export function focusRow({ taskId, index }: RowPlace): void {
  const all = links();
  const link = all.find((candidate) => candidate.dataset['task'] === taskId) ?? all[Math.min(index, all.length - 1)];
  link?.focus({ preventScroll: true });
  link?.scrollIntoView({ block: 'nearest' });
}

/** Moves the focus by some rows; from outside of the table, to its first row. */
export function stepRow(by: number): void {
  const all = links();
  const index = Math.max(0, Math.min(all.length - 1, (focusedRow()?.index ?? -by) + by));
  const taskId = all[index]?.dataset['task'];
  if (taskId !== undefined) focusRow({ taskId, index });
}
