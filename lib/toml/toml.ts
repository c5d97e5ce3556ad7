import { type AST, ParseError, parseTOML } from 'toml-eslint-parser'

/** A value of a TOML document. Tables are maps, so that `__proto__` is a key like any other. */
export type TomlValue = string | number | boolean | Date | readonly TomlEntry[] | TomlTable

/** A value, and the place of its key or (for a table) of its first header. */
export interface TomlEntry {
  readonly value: TomlValue
  /** From 1. */
  readonly line: number
  readonly file: string
}

export type TomlTable = ReadonlyMap<string, TomlEntry>

export type { AST as TomlNodes } from 'toml-eslint-parser'

/**
 * What is wrong with a text that should be TOML 1.0, and where. Lines and columns count from 1; 0 means that the place is not
 * known.
 */
export class TomlError extends Error {
  override readonly name: string = 'TomlError'
  readonly reason: string
  readonly line: number
  readonly column: number

  constructor(reason: string, line = 0, column = 0, options?: ErrorOptions) {
    const place = line === 0 ? '' : column === 0 ? `line ${line}: ` : `line ${line}, column ${column}: `
    super(place + reason, options)
    this.reason = reason
    this.line = line
    this.column = column
  }
}

/**
 * Deepest nesting of tables and arrays that is read. containerd's files have fewer than ten levels, and more only costs stack.
 */
export const NESTING_LIMIT = 100

/**
 * Reads a TOML 1.0 document, with the places of its values.
 *
 * @param file the name of the file, for the entries
 * @throws {TomlError} for a text that is not TOML, or is nested deeper than {@link NESTING_LIMIT}
 */
export function parseToml(text: string, file = ''): TomlTable {
  const root: MutableTable = new Map()
  const entryOf = (value: TomlValue, { loc }: AST.TOMLNode): TomlEntry => ({ value, line: loc.start.line, file })

  /** The table at a path. It is made if it is missing, like those before it. A number is the index in an array of tables. */
  function descend(from: MutableTable, path: readonly (string | number)[], node: AST.TOMLTable | AST.TOMLKeyValue) {
    const { line, column } = node.loc.start
    if (path.length > NESTING_LIMIT) throw new TomlError('nested too deeply', line, column + 1)
    let table = from
    for (const [at, name] of path.entries()) {
      if (typeof name === 'number') continue
      const index = path[at + 1]
      const isArray = typeof index === 'number'
      const entry = table.get(name) ?? entryOf(isArray ? [] : new Map(), node)
      table.set(name, entry)
      let { value } = entry
      if (isArray && Array.isArray(value)) {
        value[index] ??= entryOf(new Map(), node)
        value = value[index].value
      }
      if (!(value instanceof Map)) throw new TomlError(`${name} is not a table`, line, column + 1)
      table = value
    }
    return table
  }

  function setPair(table: MutableTable, node: AST.TOMLKeyValue, depth = 0): void {
    const names = keyPartsOf(node)
    const holder = descend(table, names.slice(0, -1), node)
    holder.set(names.at(-1) ?? '', entryOf(readValue(node.value, depth), node))
  }

  function readValue(node: AST.TOMLContentNode, depth: number): TomlValue {
    const { line, column } = node.loc.start
    if (depth > NESTING_LIMIT) throw new TomlError('nested too deeply', line, column + 1)
    if (node.type === 'TOMLValue') return node.value
    if (node.type === 'TOMLArray') return node.elements.map((item) => entryOf(readValue(item, depth + 1), item))
    const table: MutableTable = new Map()
    for (const pair of node.body) setPair(table, pair, depth + 1)
    return table
  }

  for (const node of parseTomlSyntax(text).body[0].body) {
    if (node.type === 'TOMLKeyValue') {
      setPair(root, node)
      continue
    }
    const table = descend(root, node.resolvedKey, node)
    for (const pair of node.body) setPair(table, pair)
  }
  return root
}

type MutableTable = Map<string, TomlEntry>

/**
 * Reads a TOML 1.0 document as a syntax tree, with its comments and the exact place of everything.
 *
 * @throws {TomlError} for a text that is not TOML
 */
export function parseTomlSyntax(text: string): AST.TOMLProgram {
  if (text.startsWith('\ufeff')) {
    throw new TomlError('a byte order mark: save the file without it', 1, 1)
  }
  // The parser takes a lone carriage return for the end of a line; TOML and containerd do not.
  const lone = /\r(?!\n)/.exec(text)
  if (lone !== null) throw errorAt(text, lone.index, 'a carriage return without a line feed')
  try {
    return parseTOML(text, { tomlVersion: '1.0' })
  } catch (error) {
    if (error instanceof ParseError) {
      throw new TomlError(error.message, error.lineNumber, error.column + 1, { cause: error })
    }
    // The parser's stack ends at some ten thousand arrays or inline tables within each other.
    if (error instanceof RangeError) throw new TomlError('nested too deeply', 1, 1, { cause: error })
    throw error
  }
}

function errorAt(text: string, index: number, reason: string): TomlError {
  const before = text.slice(0, index).split('\n')
  return new TomlError(reason, before.length, (before.at(-1) ?? '').length + 1)
}

/** The parts of a dotted key, without quotes. */
export function keyPartsOf(pair: AST.TOMLKeyValue): string[] {
  return pair.key.keys.map((key) => (key.type === 'TOMLBare' ? key.name : key.value))
}

export function isTable(value: TomlValue | undefined): value is TomlTable {
  return value instanceof Map
}

/** The elements of a list; `undefined` for anything else. */
export function listOf(entry: TomlEntry | undefined): readonly TomlEntry[] | undefined {
  return Array.isArray(entry?.value) ? entry.value : undefined
}

/** The value at a path of table names; `undefined` if it or a table on the way is missing. */
export function lookup(table: TomlTable, ...path: readonly string[]): TomlEntry | undefined {
  const holder = path.length > 1 ? tableAt(table, ...path.slice(0, -1)) : table
  return holder.get(path.at(-1) ?? '')
}

/** The table at a path of table names; an empty one if there is none. */
export function tableAt(table: TomlTable, ...path: readonly string[]): TomlTable {
  const value = lookup(table, ...path)?.value
  return isTable(value) ? value : new Map()
}

/** A dotted key, with quotes where they are needed. */
export function keyText(path: readonly string[]): string {
  return path.map((name) => (/^[A-Za-z0-9_-]+$/.test(name) ? name : JSON.stringify(name))).join('.')
}
