/**
 * Lists exports and members of classes and interfaces that nothing uses, tests aside, and fails when there are any.
 *
 * A member counts as used when anything refers to it, or to the member of a type that it implements or overrides. What the
 * compiler sees itself is left to it: local names, parameters, and private `#members`.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
/** What services import: its exports are used from outside. */
const FOR_OTHERS = /^client\//;
/** Other languages, of which only the names are read. */
const BY_NAME = ['web', 'scripts'];

const sources = ['server', 'client', 'proto', 'scripts', 'web/src'].flatMap(filesIn);
const program = ts.createProgram(
  sources.filter((file) => file.endsWith('.ts')),
  { ...optionsOf('tsconfig.json'), lib: ['lib.es2024.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts'] },
);
const checker = program.getTypeChecker();
const own = program
  .getSourceFiles()
  .filter(({ fileName }) => sources.includes(fileName) && !fileName.includes('/gen/'));
const namedElsewhere = new Set(
  [...sources.filter((file) => /\.(svelte|mjs)$/.test(file)), ...BY_NAME.flatMap(filesIn)]
    .filter((file) => /\.(svelte|mjs)$/.test(file))
    .flatMap((file) => readFileSync(file, 'utf8').match(/[\w$]+/g) ?? []),
);

const used = new Set();
/** Names by which the members of interfaces are used, which any class or object may stand for; and words in quotes. */
const usedOfAnything = new Set();
for (const file of own) visit(file, noteUse);
const dead = own.flatMap(deadIn);
for (const { file, line, name } of dead) console.log(`${file}:${line} ${name} is used by nothing`);
if (dead.length > 0) process.exitCode = 1;

function filesIn(folder) {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(ts|svelte|mjs)$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name));
}

function optionsOf(file) {
  const { config } = ts.readConfigFile(join(root, file), ts.sys.readFile);
  return ts.parseJsonConfigFileContent(config, ts.sys, root).options;
}

function visit(node, each) {
  each(node);
  ts.forEachChild(node, (child) => visit(child, each));
}

/** Notes what an identifier refers to, unless it is the declaration itself. */
function noteUse(node) {
  if (ts.isStringLiteralLike(node)) usedOfAnything.add(node.text);
  if (!ts.isIdentifier(node) || (node.parent.name === node && isDeclaration(node.parent))) return;
  const symbol = checker.getSymbolAtLocation(node);
  if (symbol) noteSymbol(symbol);
  // `{ name }` is a use of the property that it reads or writes, too.
  if (ts.isShorthandPropertyAssignment(node.parent)) noteSymbol(checker.getShorthandAssignmentValueSymbol(node.parent));
  if (ts.isBindingElement(node.parent) || ts.isPropertyAssignment(node.parent)) noteSymbol(propertyOf(node));
}

function propertyOf(node) {
  const { parent } = node;
  const pattern = parent.parent;
  const type = ts.isBindingElement(parent) ? checker.getTypeAtLocation(pattern) : checker.getContextualType(pattern);
  const { text } = parent.propertyName ?? parent.name;
  return text === undefined ? undefined : type?.getProperty(text);
}

function isDeclaration(node) {
  return (
    ts.isMethodDeclaration(node) ||
    ts.isPropertyDeclaration(node) ||
    ts.isPropertySignature(node) ||
    ts.isMethodSignature(node) ||
    ts.isAccessor(node) ||
    ts.isFunctionDeclaration(node) ||
    ts.isClassDeclaration(node) ||
    ts.isInterfaceDeclaration(node) ||
    ts.isTypeAliasDeclaration(node) ||
    ts.isVariableDeclaration(node) ||
    ts.isParameter(node)
  );
}

function noteSymbol(symbol) {
  if (!symbol) return;
  const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
  for (const declaration of target.declarations ?? []) {
    used.add(declaration);
    if (ts.isPropertySignature(declaration) || ts.isMethodSignature(declaration)) usedOfAnything.add(symbol.name);
  }
}

function deadIn(file) {
  const found = [];
  const path = relative(root, file.fileName);
  const report = (node, name) => {
    const { line } = file.getLineAndCharacterOfPosition(node.getStart());
    found.push({ file: path, line: line + 1, name });
  };
  for (const statement of file.statements) {
    if (FOR_OTHERS.test(path) && isExported(statement)) continue;
    if (isExported(statement))
      for (const { node, name } of namesOf(statement)) if (isDead(node, name)) report(node, name);
    if (ts.isClassDeclaration(statement) || ts.isInterfaceDeclaration(statement))
      for (const member of statement.members)
        if (isDeadMember(statement, member)) report(member, `${statement.name.text}.${member.name.text}`);
  }
  return found;
}

function isExported(statement) {
  return (
    ts.canHaveModifiers(statement) &&
    ts.getModifiers(statement)?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword)
  );
}

function namesOf(statement) {
  if (ts.isVariableStatement(statement))
    return statement.declarationList.declarations
      .filter(({ name }) => ts.isIdentifier(name))
      .map((node) => ({ node, name: node.name.text }));
  return statement.name ? [{ node: statement, name: statement.name.text }] : [];
}

function isDead(node, name) {
  return !used.has(node) && !namedElsewhere.has(name);
}

function isDeadMember(owner, member) {
  if (!member.name || !ts.isIdentifier(member.name) || ts.isConstructorDeclaration(member)) return false;
  const name = member.name.text;
  return (
    isDead(member, name) &&
    !usedOfAnything.has(name) &&
    !inheritedFrom(owner, name).some((declaration) => used.has(declaration) || !isOurs(declaration))
  );
}

/** The declarations of a member in the types that its owner extends or implements. */
function inheritedFrom(owner, name) {
  return (owner.heritageClauses ?? [])
    .flatMap(({ types }) => types)
    .flatMap((type) => checker.getTypeAtLocation(type).getProperty(name)?.declarations ?? []);
}

function isOurs(declaration) {
  return own.includes(declaration.getSourceFile());
}
