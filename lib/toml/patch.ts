import { isDeepStrictEqual } from 'node:util'
import { keyPartsOf, lookup, parseToml, parseTomlSyntax, TomlError, type TomlNodes } from './toml.ts'

/** A change of a file. Lines count from 1, in the unchanged file. */
export type Edit =
  | { readonly kind: 'replace'; readonly from: number; readonly to: number; readonly lines: readonly string[] }
  | { readonly kind: 'insert'; readonly after: number; readonly lines: readonly string[] }
  | { readonly kind: 'append'; readonly lines: readonly string[] }

/** Makes all changes, in any order. The rest of the file stays unchanged, with its comments. */
export function applyEdits(text: string, edits: readonly Edit[]): string {
  const newline = text.includes('\r\n') ? '\r\n' : '\n'
  const lines = text.split(/\r?\n/)
  const endsWithNewline = lines.at(-1) === ''
  if (endsWithNewline) lines.pop()
  const at = (edit: Edit) =>
    edit.kind === 'append' ? Number.POSITIVE_INFINITY : edit.kind === 'insert' ? edit.after + 0.5 : edit.from
  // From the bottom up, so that the line numbers above stay right. Appends keep their order.
  const ordered = [...edits].sort((a, b) => at(b) - at(a))
  const appended = edits.filter((edit) => edit.kind === 'append')
  for (const edit of ordered) {
    if (edit.kind === 'replace') lines.splice(edit.from - 1, edit.to - edit.from + 1, ...edit.lines)
    else if (edit.kind === 'insert') lines.splice(edit.after, 0, ...edit.lines)
  }
  for (const edit of appended) lines.push(...edit.lines)
  return lines.length === 0 ? '' : `${lines.join(newline)}${newline}`
}

/**
 * The change that sets a key of a table: in the key's line if it has one, otherwise below the table's header if it has one,
 * otherwise in a new table at the end. The change has been tried on the text. `undefined` if none of these works, as for a key
 * that an inline table lacks, or if the text is not TOML.
 *
 * @param path the names of the tables, and the key
 */
export function planSetting(
  text: string,
  path: readonly string[],
  value: string | boolean | readonly string[],
): Edit[] | undefined {
  const literal = Array.isArray(value)
    ? `[${value.map((item) => JSON.stringify(item)).join(', ')}]`
    : JSON.stringify(value)
  const key = keyText(path.slice(-1))
  const header = `[${keyText(path.slice(0, -1))}]`
  const nodes = nodesOf(text)
  if (nodes === undefined) return undefined
  const candidates: Edit[][] = []
  const pair = nodes.pairs.find((candidate) => same(candidate.path, path))?.node
  if (pair !== undefined) {
    const { start, end } = pair.loc
    candidates.push([{ kind: 'replace', from: start.line, to: end.line, lines: [withValue(text, pair, literal)] }])
  }
  const table = nodes.tables.find((candidate) => same(candidate.resolvedKey, path.slice(0, -1)))
  if (table !== undefined) {
    const indent = ' '.repeat(table.body[0]?.loc.start.column ?? table.loc.start.column + 2)
    candidates.push([{ kind: 'insert', after: table.loc.start.line, lines: [`${indent}${key} = ${literal}`] }])
  }
  candidates.push([{ kind: 'append', lines: ['', header, `  ${key} = ${literal}`] }])
  return candidates.find((edits) => isDeepStrictEqual(valueAt(applyEdits(text, edits), path), value))
}

/** The change that removes a table or a key with its contents, tried on the text; `undefined` if there is none. */
export function planRemoval(text: string, path: readonly string[]): Edit[] | undefined {
  const nodes = nodesOf(text)
  if (nodes === undefined) return undefined
  const within = (key: readonly (string | number)[]) => same(key.slice(0, path.length), path)
  const ranges = [
    ...nodes.tables.filter((table) => within(table.resolvedKey)),
    ...nodes.pairs.filter((pair) => !pair.inline && within(pair.path) && !within(pair.table)).map(({ node }) => node),
  ].map(({ loc }) => ({ kind: 'replace', from: loc.start.line, to: loc.end.line, lines: [] }) as const)
  if (ranges.length === 0) return undefined
  return valueAt(applyEdits(text, ranges), path) === undefined ? ranges : undefined
}

function valueAt(text: string, path: readonly string[]): unknown {
  try {
    const value = lookup(parseToml(text), ...path)?.value
    return Array.isArray(value) ? value.map((item) => item.value) : value
  } catch (error) {
    // A change that breaks the file is no candidate, so this value equals neither a wanted value nor a missing one.
    if (error instanceof TomlError) return BROKEN
    throw error
  }
}

const BROKEN = Symbol('broken')

interface Pair {
  readonly node: TomlNodes.TOMLKeyValue
  /** The names of the table under whose header the pair is. */
  readonly table: readonly (string | number)[]
  readonly path: readonly (string | number)[]
  /** Whether the pair is in an inline table. */
  readonly inline: boolean
}

function nodesOf(text: string): { tables: TomlNodes.TOMLTable[]; pairs: Pair[] } | undefined {
  const tables: TomlNodes.TOMLTable[] = []
  const pairs: Pair[] = []
  const add = (table: readonly (string | number)[], node: TomlNodes.TOMLKeyValue, inline = false) => {
    const path = [...table, ...keyPartsOf(node)]
    pairs.push({ node, table, path, inline })
    if (node.value.type === 'TOMLInlineTable') for (const pair of node.value.body) add(path, pair, true)
  }
  try {
    for (const node of parseTomlSyntax(text).body[0].body) {
      if (node.type === 'TOMLKeyValue') add([], node)
      else {
        if (node.kind === 'standard') tables.push(node)
        for (const pair of node.body) add(node.resolvedKey, pair)
      }
    }
  } catch (error) {
    if (error instanceof TomlError) return undefined
    throw error
  }
  return { tables, pairs }
}

/** The line of a pair with another value, which replaces all its lines. */
function withValue(text: string, { loc, value }: TomlNodes.TOMLKeyValue, literal: string): string {
  const lines = text.split(/\r?\n/)
  const before = lines[loc.start.line - 1]?.slice(0, value.loc.start.column)
  return `${before}${literal}${lines[loc.end.line - 1]?.slice(value.loc.end.column)}`
}

function same(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((name, at) => name === b[at])
}

/** A dotted key, with quotes where they are needed. */
function keyText(path: readonly string[]): string {
  return path.map((name) => (/^[A-Za-z0-9_-]+$/.test(name) ? name : JSON.stringify(name))).join('.')
}
