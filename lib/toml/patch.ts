import { keyPartsOf, lookup, parseToml, parseTomlSyntax, TomlError, type TomlNodes } from './toml.ts'

/** One change of a file. Lines count from 1, in the file before any change. */
export type Edit =
  | { readonly kind: 'replace'; readonly from: number; readonly to: number; readonly lines: readonly string[] }
  | { readonly kind: 'insert'; readonly after: number; readonly lines: readonly string[] }
  | { readonly kind: 'append'; readonly lines: readonly string[] }

/** Makes all changes, in whatever order they come. The rest of the file stays as it is, with its comments. */
export function applyEdits(text: string, edits: readonly Edit[]): string {
  const newline = text.includes('\r\n') ? '\r\n' : '\n'
  const lines = text.split(/\r?\n/)
  const endsWithNewline = lines.at(-1) === ''
  if (endsWithNewline) lines.pop()
  const at = (edit: Edit) =>
    edit.kind === 'append' ? Number.POSITIVE_INFINITY : edit.kind === 'insert' ? edit.after + 0.5 : edit.from
  // From the bottom up, so that the numbers of the lines above stay right; appends keep their order.
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
 * The change that gives a key of a table a value: in the key's line if there is one, else below the table's header if there
 * is one, else in a new table at the end. It has been tried on the text. `undefined` if none of these works, as with an
 * inline table that lacks the key, or if the text is not TOML.
 *
 * @param path names of the tables and the key
 */
export function planSetting(text: string, path: readonly string[], value: string | boolean): Edit[] | undefined {
  const literal = typeof value === 'string' ? JSON.stringify(value) : String(value)
  const key = keyText(path.slice(-1))
  const header = `[${keyText(path.slice(0, -1))}]`
  const nodes = nodesOf(text)
  if (nodes === undefined) return undefined
  const candidates: Edit[][] = []
  const pair = nodes.pairs.find((candidate) => same(candidate.path, path))?.node
  const line = pair === undefined ? undefined : replacedValue(text, pair, literal)
  if (pair !== undefined && line !== undefined) {
    candidates.push([{ kind: 'replace', from: pair.loc.start.line, to: pair.loc.end.line, lines: [line] }])
  }
  const table = nodes.tables.find((candidate) => same(candidate.resolvedKey, path.slice(0, -1)))
  if (table !== undefined) {
    const indent = ' '.repeat(table.body[0]?.loc.start.column ?? table.loc.start.column + 2)
    candidates.push([{ kind: 'insert', after: table.loc.start.line, lines: [`${indent}${key} = ${literal}`] }])
  }
  candidates.push([{ kind: 'append', lines: ['', header, `  ${key} = ${literal}`] }])
  return candidates.find((edits) => valueAt(applyEdits(text, edits), path) === value)
}

/** The change that removes a table, or a key, with all that is in it, tried on the text; `undefined` if there is none. */
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

/**
 * The change that removes a string from a list at the top of the file and keeps the list's comments, tried on the text;
 * `undefined` if there is none.
 */
export function planElementRemoval(text: string, key: string, element: string): Edit[] | undefined {
  const list = nodesOf(text)?.pairs.find(({ path }) => same(path, [key]))?.node.value
  if (list?.type !== 'TOMLArray') return undefined
  const nodes = list.elements
  const at = nodes.findIndex((node) => node.type === 'TOMLValue' && node.value === element)
  const [before, node, after] = [nodes[at - 1], nodes[at], nodes[at + 1]]
  if (node === undefined) return undefined
  // With its comma: the one after it, or the one before it for the last element.
  const comma = text.slice(node.range[1], (after ?? list).range[after === undefined ? 1 : 0]).indexOf(',')
  const from = comma >= 0 || before === undefined ? node.range[0] : before.range[1]
  const to = comma >= 0 ? node.range[1] + comma + 1 : node.range[1]
  const lineStart = text.lastIndexOf('\n', from - 1) + 1
  const lineEnd = text.indexOf('\n', to)
  const line = text.slice(lineStart, from) + text.slice(to, lineEnd < 0 ? undefined : lineEnd).replace(/\r$/, '')
  const lines = line.trim() === '' ? [] : [line]
  const first = text.slice(0, lineStart).split('\n').length
  const spanned = text.slice(lineStart, to).split('\n').length - 1
  const edits: Edit[] = [{ kind: 'replace', from: first, to: first + spanned, lines }]
  const left = valueAt(applyEdits(text, edits), [key])
  const wanted = nodes.flatMap((other) => (other.type === 'TOMLValue' && other !== node ? [other.value] : []))
  const right =
    Array.isArray(left) &&
    same(
      left.map(({ value }) => value),
      wanted,
    )
  return right ? edits : undefined
}

function valueAt(text: string, path: readonly string[]): unknown {
  try {
    return lookup(parseToml(text), ...path)?.value
  } catch (error) {
    // A change that breaks the file is no candidate: this equals no wanted value, and not its absence either.
    if (error instanceof TomlError) return BROKEN
    throw error
  }
}

const BROKEN = Symbol('broken')

interface Pair {
  readonly node: TomlNodes.TOMLKeyValue
  /** Names of the table under whose header it stands. */
  readonly table: readonly (string | number)[]
  readonly path: readonly (string | number)[]
  /** Whether it stands in an inline table. */
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

/** The line of a pair with another value; `undefined` for a pair of several lines. */
function replacedValue(text: string, { loc, value }: TomlNodes.TOMLKeyValue, literal: string): string | undefined {
  if (loc.start.line !== loc.end.line) return undefined
  const line = text.split(/\r?\n/)[loc.start.line - 1]
  return line === undefined
    ? undefined
    : `${line.slice(0, value.loc.start.column)}${literal}${line.slice(value.loc.end.column)}`
}

function same(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((name, at) => name === b[at])
}

/** A dotted key, with quotes where they are needed. */
function keyText(path: readonly string[]): string {
  return path.map((name) => (/^[A-Za-z0-9_-]+$/.test(name) ? name : JSON.stringify(name))).join('.')
}
