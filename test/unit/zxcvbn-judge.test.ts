import { describe, expect, it } from 'vitest';
import { ZxcvbnJudge } from '../../server/identity/zxcvbn-judge.js';

import { judgePassword } from '../../web/src/state/password-strength.js';

const judge = new ZxcvbnJudge();
const weaknessOf = async (password: string, userId = 'ssx') => (await judge.judge(password, userId)).weakness;

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

  it.each([
    'correct horse battery',
    'x8Kq2mZp',
    'my taskdash lives in the cellar',
    'taskdash correct horse battery',
    '红烧肉配三杯清茶',
    'zt-QW7gPfnbeh-4FDKx',
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
    ])
      expect(await judgePassword(password, 'sunxiaoxiao')).toEqual(await judge.judge(password, 'sunxiaoxiao'));
  });

  it('with a user name of two letters may have them', async () => {
    expect(await weaknessOf('hello my old typewriter', 'my')).toBeUndefined();
  });
});
