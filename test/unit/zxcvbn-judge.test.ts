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
const PUT_TOGETHER = [
  ...['abcd1234!@#$', 'asdf1234!@#$', '1q2w3e4r!@#$', 'xyz20200101', '19900101abc', '19900101wang', 'admin19900101'],
  ...['liwei19870101', 'wangfang0214', 'redis6379', 'redis:6379', 'mysql3306!', 'localhost:8080'],
  ...['monkey!!!!monkey', 'dragon2020dragon', 'sunshine....sunshine'],
];
/** Columns and rows, either way, with and without shift, in zigzag, several of them, with a year or what else is put behind. */
const WALKS = [
  ...[
    '1qaz@WSX2026',
    'zaq1@WSX',
    '2wsx3edc4rfv',
    '1qaz@WSX3edc',
    '!QAZ2wsx#EDC',
    '1qaz@WSX3edc$RFV',
    '!QAZ@WSX#EDC$RFV',
  ],
  ...[
    '1qaz@WSX',
    '1qaz@WSX!',
    '1qaz@WSX@2026',
    '1qaz-2wsx-3edc',
    '1qaz_@WSX',
    'zaq1xsw2cde3',
    'ZAQ!xsw2CDE#',
    'rfv5tgb6yhn7',
  ],
  ...[
    '1QAZxsw2#EDC',
    'qweASDzxc2025',
    '!@#$qwerASDF',
    'QWER!@#$asdf',
    'poiu;lkj/.,m',
    '0okm9ijn8uhb',
    '4esz5rdx6tfc',
    'q1w2e3r4T5Y6',
  ],
  ...[
    'qawsedRFTGYH',
    '1Q2w3E4r5T6y',
    'azerQSDFwxcv',
    '789456123+Qaz',
    '7ujm&UJM8ik,',
    '5tgb%TGB123',
    '@WSX1qaz2024!',
    'ASDFGHJKL:"2026',
  ],
];
/** Some with a piece of a row in them, as words have. */
const PASSPHRASES = [
  ...[
    'street crew poison expert',
    'we were in deep weed',
    'fewer trees were red',
    'property power tower',
    'concert tickets below',
  ],
  ...[
    'rewrite the treaty',
    'sweet treat at the station',
    'oil poised on asphalt',
    'desert point brewery',
    'a wet dress and a sweater',
  ],
  ...[
    '床前明月光疑是地上霜',
    '我家门口有两棵枣树',
    '红烧肉配三杯清茶',
    '周末去西湖划船吧',
    '雨天适合喝热豆浆',
    '半夜三更猫在唱歌',
  ],
  ...['chuang qian ming yue guang yi', 'yu tian he re doujiang', 'xihu huachuan zhoumo', 'hongshaorou san bei qingcha'],
  ...[
    'drei Kater trinken Tee',
    'kühler Wert ohne Poster',
    'три белых коня',
    'poplar lookout 77 jury',
    'qaz is not a word here',
  ],
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

  it.each(WALKS)('%s is refused: keys that lie side by side', async (password) => {
    expect(['common', 'pattern']).toContain(await weaknessOf(password));
  });

  it.each(PASSPHRASES)('%s is a passphrase', async (password) => {
    expect(await weaknessOf(password)).toBeUndefined();
  });

  it.each(PUT_TOGETHER)('%s is refused, whatever its pieces would be worth in an unknown order', async (password) => {
    expect(['common', 'pattern']).toContain(await weaknessOf(password));
  });

  it.each(['127.0.0.1', '192.168.100.200', '10.0.0.1:8080', '172.16.0.0/12', '8080:8080', '6379-6379'])(
    '%s is refused: an address, or ports',
    async (password) => {
      expect(await weaknessOf(password)).toBe('pattern');
    },
  );

  it.each([
    'ａｄｍｉｎ１２３',
    'Ｐａｓｓｗｏｒｄ1',
    'пароль123',
    'привет2020',
    '비밀번호123',
    'contrasen\u0303a1',
    'パスワード1234',
  ])('%s is refused in whatever form and language', async (password) => {
    expect(await weaknessOf(password)).toBe('common');
  });

  it('is refused with the name of its user in another form', async () => {
    expect(await weaknessOf('ｓｕｎｘｉａｏｘｉａｏ99', 'sunxiaoxiao')).toBe('name');
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
    'correct horse',
    'kettle47raven',
    'redwood77lantern',
    'wet dog 1987 sofa',
    'blue sky green tea',
    'dampfschiff kaffee',
    'ich mag kalten tee',
    'три белых коня',
    'mesa nube jirafa',
    'sun moon star',
    'purple-kettle-77',
    'x7k-93p-q2w',
    'mW4!tz9k',
    'redis is not my cat',
    'set by operator',
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
      ...PUT_TOGETHER,
      ...WALKS,
      ...PASSPHRASES,
      ...['127.0.0.1', '8080:8080', 'ａｄｍｉｎ１２３', 'пароль123', 'correct horse'],
      SLOW,
    ])
      expect(await judgePassword(password, 'sunxiaoxiao')).toEqual(await judge.judge(password, 'sunxiaoxiao'));
  });

  it.each(['first-guesses.ts', 'keyboard-walks.ts'])('is judged by the same %s on both sides', (file) => {
    const [ofServer, ofPage] = ['server/identity', 'web/src/state'].map((folder) =>
      readFileSync(join(root, folder, file), 'utf8'),
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
