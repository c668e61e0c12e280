import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ERROR_CATALOGUE, ERRID_MESSAGES, TaskDashError } from '../server/domain/errors.js';

const page = readFileSync(new URL('../docs/errors.md', import.meta.url), 'utf8');
const rows = new Map(
  page
    .split('\n')
    .map((line) => /^\| `([A-Z_]+)` \| (\w+) \| (\d+) \| (.+?) \| (.+) \|$/.exec(line))
    .filter((match) => match !== null)
    .map(([, code, kind, errid, message, hint]) => [code, { kind, errid: Number(errid), message, hint }]),
);

describe('the catalogue of errors', () => {
  it.each(Object.entries(ERROR_CATALOGUE))('documents %s as it is', (code, entry) => {
    expect(rows.get(code)).toEqual(entry);
  });

  it('is documented without codes that do not exist', () => {
    expect([...rows.keys()].sort()).toEqual(Object.keys(ERROR_CATALOGUE).sort());
  });

  it('answers the legacy door with the texts of the interface document, to the byte', () => {
    expect(ERRID_MESSAGES).toEqual({
      0: '正确',
      1000: '请求格式不正确',
      1001: '数据库存储失败',
      1002: '不存在该任务id',
      1003: '未授权',
    });
  });

  it('keeps the cause of a stranger for the log and tells nothing of it', () => {
    const cause = new Error('password=hunter2');
    const error = TaskDashError.from(cause);
    expect(error.code).toBe('INTERNAL');
    expect(error.cause).toBe(cause);
    expect(error.message).not.toContain('hunter2');
  });
});
