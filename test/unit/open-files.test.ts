import { describe, expect, it } from 'vitest';
import { connectionsADoor, openFilesIn, openFilesLimit } from '../../server/open-files.js';

describe('the files of a process', () => {
  it('are shared by the doors, and leave some to everything else', () => {
    expect(connectionsADoor(20_000) * 3).toBeLessThan(20_000 - 500);
    expect(connectionsADoor(20_000)).toBeGreaterThan(6_000);
    expect(connectionsADoor(Infinity)).toBe(Infinity);
    expect(connectionsADoor(64)).toBe(1);
  });

  it('are read from what Linux tells', () => {
    const line = (soft: string) =>
      `Limit  Soft Limit  Hard Limit  Units\nMax open files            ${soft}     524288     files\n`;
    expect(openFilesIn(line('20000'))).toBe(20_000);
    expect(openFilesIn(line('unlimited'))).toBe(Infinity);
    expect(openFilesIn('')).toBe(Infinity);
    expect(openFilesLimit()).toBeGreaterThan(100);
  });
});
