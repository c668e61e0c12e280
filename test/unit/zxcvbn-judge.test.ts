import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { ZxcvbnJudge } from '../../server/identity/zxcvbn-judge.js';
import { judgePassword } from '../../web/src/state/password-strength.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** Can be read as words in very many ways. */
const SLOW = `taskdash${'p@$$w0rd1!'.repeat(7)}`;

const judge = new ZxcvbnJudge();
const weaknessOf = async (password: string, userId = 'ssx') => (await judge.judge(password, userId)).weakness;

const FIRST_IN_CHINA = [
  ...[
    'woaini1314',
    'woaini520',
    'woaini521',
    'woaini123',
    'woshishui',
    'meiyoumima',
    'dearbook',
    'xiazhili',
    'wojiushiwo',
  ],
  ...[
    'ms0083jxj',
    'buzhidao',
    '5845201314',
    'aini1314',
    'caonima123',
    'woaiwojia',
    'Woaini@1314',
    'zhangwei123',
    'wangjing@88',
  ],
];
const FIRST_AT_SERVERS = [
  ...['postgres', 'Postgres@2024', 'root1234', 'root@1234', 'admin@123', 'dashboard1', 'p0stgres!', 'Huawei12#$'],
  ...['Summer2024!', 'autumn-2025', 'P@ssw0rd2024!', 'correcthorsebatterystaple', 'correct horse battery staple'],
];

describe('a password', () => {
  it.each([
    ['12345678', 'common'],
    ['password', 'common'],
    ['Password1', 'common'],
    ['P@ssw0rd!', 'common'],
    ['iloveyou', 'common'],
    ['qwertyuiop', 'common'],
    ['taskdash', 'name'],
    ['TaskDash1', 'name'],
    ['taskdash2026', 'name'],
    ['Taskdash!2026', 'name'],
    ['taskdash-admin', 'name'],
    ['sunxiaoxiao1', 'name'],
    ['SunXiaoXiao!99', 'name'],
    ['sunxiaoxiao@taskdash', 'name'],
    ['aaaaaaaaaaaa', 'pattern'],
    ['abcdefgh', 'pattern'],
    ['20261129', 'pattern'],
    ['密码密码密码密码', 'pattern'],
  ])('%s is refused as %s', async (password, weakness) => {
    expect(await weaknessOf(password, 'sunxiaoxiao')).toBe(weakness);
  });

  it.each([...FIRST_IN_CHINA, ...FIRST_AT_SERVERS])('%s is refused as what is tried first', async (password) => {
    expect(await weaknessOf(password)).toBe('common');
  });

  it.each([
    'correct horse battery',
    'x8Kq2mZp',
    'my taskdash lives in the cellar',
    'taskdash correct horse battery',
    '红烧肉配三杯清茶',
    'zt-QW7gPfnbeh-4FDKx',
    'x8Kq2mZ!',
    '+cp+.kji',
    'a?b!c#1$2%3',
    'hongshaorou san bei qingcha',
    'four seasons one umbrella',
  ])('%s may be', async (password) => {
    expect(await weaknessOf(password)).toBeUndefined();
  });

  it('is the stronger the harder it is to guess', async () => {
    const scores = await Promise.all(
      ['12345678', 'letmein!!', 'x8Kq2mZp', 'correct horse', 'correct horse battery'].map(
        async (password) => (await judge.judge(password, 'ssx')).score,
      ),
    );
    expect(scores).toEqual([0, 1, 2, 3, 4]);
  });

  it('is judged by the page as by the server', async () => {
    const passwords = ['12345678', 'taskdash', 'Taskdash!2026', 'SunXiaoXiao!99', 'abcdefgh', 'aB3', 'x8Kq2mZp'];
    for (const password of [
      ...passwords,
      'my taskdash lives in the cellar',
      'correct horse battery',
      '密码密码密码密码',
      ...FIRST_IN_CHINA,
      ...FIRST_AT_SERVERS,
      SLOW,
    ])
      expect(await judgePassword(password, 'sunxiaoxiao')).toEqual(await judge.judge(password, 'sunxiaoxiao'));
  });

  it('is judged by the same words on both sides', () => {
    const [ofServer, ofPage] = ['server/identity', 'web/src/state'].map((folder) =>
      readFileSync(join(root, folder, 'first-guesses.ts'), 'utf8'),
    );
    expect(ofPage).toBe(ofServer);
  });

  it('holds up nobody else while it is judged, however it was made up', async () => {
    await judge.judge(SLOW, 'ssx');
    const tookMs: number[] = [];
    for (let n = 0; n < 5; n++) {
      const before = process.cpuUsage();
      await judge.judge(SLOW, 'ssx');
      const { user, system } = process.cpuUsage(before);
      tookMs.push((user + system) / 1000);
    }
    expect(Math.min(...tookMs)).toBeLessThan(50);
  });

  it('with a user name of two letters may have them', async () => {
    expect(await weaknessOf('hello my old typewriter', 'my')).toBeUndefined();
  });
});
