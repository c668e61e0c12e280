import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  conditionsOf,
  EMPTY_QUERY,
  formatQuery,
  isEmptyQuery,
  parseQuery,
  queryOf,
  withoutCondition,
  withStatusToggled,
  type Condition,
} from '../../web/src/state/task-query.js';

describe('the text of the search box', () => {
  it('asks for nothing when it is empty, blank or only half a qualifier', () => {
    for (const text of ['', '   ', 'status:', 'status: group:', 'user：']) {
      expect(parseQuery(text)).toEqual(EMPTY_QUERY);
    }
  });

  it('reads every qualifier, and the rest as words', () => {
    expect(parseQuery('status:running nightly group:mx user:ssx id:13 name:imp addr:10.0. import')).toEqual({
      statuses: ['running'],
      groups: ['mx'],
      users: ['ssx'],
      idPrefix: '13',
      namePrefix: 'imp',
      addrPrefix: '10.0.',
      words: ['nightly', 'import'],
    });
  });

  it('takes status, group and user several times, and the last of id, name and addr', () => {
    const query = parseQuery('status:running status:restart status:running id:1 id:2 group:a group:b');
    expect(query).toMatchObject({ statuses: ['running', 'restart'], idPrefix: '2', groups: ['a', 'b'] });
  });

  it('takes quoted texts as they are, with escaped quotation marks, also while the closing one is missing', () => {
    expect(parseQuery(String.raw`user:"Li Na" status:"a \"b\" \\"`)).toMatchObject({
      users: ['Li Na'],
      statuses: [String.raw`a "b" \ `.trimEnd()],
    });
    expect(parseQuery('user:"Li N').users).toEqual(['Li N']);
    expect(parseQuery('"status:running"')).toMatchObject({ statuses: [], words: ['status:running'] });
    expect(parseQuery('status:""').statuses).toEqual(['']);
  });

  it('takes the full-width colon and any case of the qualifier', () => {
    expect(parseQuery('STATUS：running Group:mx')).toMatchObject({ statuses: ['running'], groups: ['mx'] });
  });

  it('keeps addresses and unknown qualifiers as words', () => {
    expect(parseQuery('http://a.b/c tag:x foostatus:y').words).toEqual(['http://a.b/c', 'tag:x', 'foostatus:y']);
  });
});

describe('a query', () => {
  const value = fc.string({ minLength: 1, unit: 'grapheme' });
  const condition: fc.Arbitrary<Condition> = fc.oneof(
    fc.record({ qualifier: fc.constantFrom('status', 'group', 'user', 'id', 'name', 'addr'), value }),
    fc.record({
      qualifier: fc.constant('text'),
      value: fc.constantFrom('a', '状态', 'status:x', 'a"b', 'x\\', 'addr：1'),
    }),
  );

  it('is the same after it was written and read, whatever its values', () => {
    fc.assert(
      fc.property(fc.array(condition, { maxLength: 8 }), (conditions) => {
        const query = queryOf(conditions);
        expect(parseQuery(formatQuery(query))).toEqual(query);
      }),
      { numRuns: 500 },
    );
  });

  it('is empty without any of its conditions', () => {
    const query = parseQuery('status:a status:b group:g id:1 two words');
    const rest = conditionsOf(query).reduce(withoutCondition, query);
    expect(isEmptyQuery(rest)).toBe(true);
  });

  it('gains and loses a status by toggling it', () => {
    const once = withStatusToggled(parseQuery('group:mx status:finish'), 'running');
    expect(formatQuery(once)).toBe('status:finish status:running group:mx');
    expect(formatQuery(withStatusToggled(once, 'finish'))).toBe('status:running group:mx');
  });
});
