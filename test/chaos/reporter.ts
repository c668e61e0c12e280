/** Prints what the scenarios showed as a table, and keeps the table of a whole run that went well in a document. */
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import type { Reporter, TestCase, TestModule } from 'vitest/node';
import type { Figures, VerdictTimes } from './scenario.js';

const HEAD = [
  'scenario',
  'services',
  'gone',
  'living shown shutdown',
  'dead shown running',
  'acknowledged writes',
  'of them lost',
  'replayed writes',
  'changes missed or told twice',
  'time to the verdict',
  'beside',
  'took',
];

export class ChaosReporter implements Reporter {
  /** `document`: where the table is kept, if it is. */
  constructor(private readonly document?: { readonly path: string; readonly intro: string }) {}

  onTestRunEnd(modules: readonly TestModule[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const rows = tests.flatMap(rowOf);
    if (rows.length === 0) return;
    const table = tableOf([HEAD, ...rows]);
    process.stdout.write(`\n${table}\n`);
    if (this.document && tests.every((test) => test.result().state === 'passed')) this.#keep(table, tests);
  }

  #keep(table: string, tests: readonly TestCase[]): void {
    const { path, intro } = this.document ?? { path: '', intro: '' };
    const seconds = tests.reduce((total, test) => total + (test.diagnostic()?.duration ?? 0), 0) / 1000;
    const about = `The last whole run: Node ${process.versions.node} on ${cpus().length} cores, ${Math.round(seconds / 60)} minutes.`;
    writeFileSync(path, `${intro}\n## ${about}\n\n${table}\n`);
  }
}

function rowOf(test: TestCase): string[][] {
  const figures = test.meta().chaos;
  if (!figures) return [];
  const took = `${Math.round((test.diagnostic()?.duration ?? 0) / 1000)} s`;
  return [[test.name, ...cellsOf(figures), took]];
}

function cellsOf(figures: Figures): string[] {
  const { services, gone, falseShutdowns, missedShutdowns, acknowledgedWrites, lostWrites, verdicts, note } = figures;
  const counts = [services, gone, falseShutdowns.length, missedShutdowns.length, acknowledgedWrites, lostWrites.length];
  const ifLookedAt = (flaws: readonly string[] | undefined) => (flaws ? String(flaws.length) : '–');
  return [
    ...counts.map(String),
    ifLookedAt(figures.replayedWrites),
    ifLookedAt(figures.wrongChanges),
    verdicts.map(wordsOf).join('; ') || '–',
    note || '–',
  ];
}

function wordsOf({ minMs, maxMs, atLeastMs, atMostMs, since }: VerdictTimes): string {
  return `${seconds(minMs)} to ${seconds(maxMs)} s since ${since} (allowed: ${seconds(atLeastMs)} to ${seconds(atMostMs)})`;
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(2);
}

function tableOf([head = [], ...rows]: readonly string[][]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
