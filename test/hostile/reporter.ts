/** Prints what the attacks showed as a table, and keeps the table of a whole run in a document, held or not. */
import { writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import type { Reporter, TestCase, TestModule } from 'vitest/node';
import { brokenBounds, type Figures } from './scenario.js';

const HEAD = [
  'attack',
  'held',
  'memory at most',
  '/healthz p99 before',
  'during',
  'longest turn before',
  'during',
  "the client's own",
  'good client before',
  'during',
  'its worst second',
  'its failures',
  'what the attacker saw',
];

export class HostileReporter implements Reporter {
  constructor(private readonly document: { readonly path: string; readonly intro: string }) {}

  onTestRunEnd(modules: readonly TestModule[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const rows = tests.flatMap(rowOf);
    if (rows.length === 0) return;
    const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
    const table = [line(HEAD), line(HEAD.map(() => '---')), ...rows.map(line)].join('\n');
    process.stdout.write(`\n${table}\n`);
    if (rows.length < tests.length) return;
    const load = Math.round(loadavg()[2] ?? 0);
    const about = `The last whole run: Node ${process.versions.node} on ${cpus().length} cores, with a load of ${load}.`;
    writeFileSync(this.document.path, `${this.document.intro}\n## ${about}\n\n${table}\n`);
  }
}

function rowOf(test: TestCase): string[][] {
  const figures = test.meta().hostile;
  return figures ? [[test.name, ...cellsOf(figures)]] : [];
}

function cellsOf(figures: Figures): string[] {
  const broken = brokenBounds(figures);
  return [
    broken.length === 0 ? 'yes' : `no: ${broken.join(', ')}`,
    `${Math.round(figures.rssMib)} MiB`,
    `${Math.round(figures.healthP99BeforeMs)} ms`,
    `${Math.round(figures.healthP99Ms)} ms`,
    `${Math.round(figures.longestTurnBeforeMs)} ms`,
    `${Math.round(figures.longestTurnMs)} ms`,
    `${Math.round(figures.clientsLongestTurnMs)} ms`,
    `${Math.round(figures.before)}/s`,
    `${Math.round(figures.during)}/s`,
    `${figures.worstSecond}`,
    `${figures.failures}`,
    figures.saw,
  ];
}
