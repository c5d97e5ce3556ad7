import { parseTomlSyntax } from '../../toml/toml.ts'
import { HostsError } from './hosts-error.ts'

/** What a hosts.toml says of our mirror. */
export interface MirrorEntry {
  /** Where containerd reaches the registry door, such as `http://127.0.0.1:5000`. */
  readonly url: string
  readonly capabilities: readonly ('pull' | 'resolve')[]
  /** A Go duration; only for versions that know it. */
  readonly dialTimeout?: string | undefined
}

/** What was there before our block was written, kept in the block itself, so that removing it needs nothing else. */
export interface BlockOrigin {
  /** Whether the file was made for the block. */
  readonly newFile: boolean
  /** How many directories were made for the file: its own, the one above it, and so on. */
  readonly madeDirectories: number
}

/** Our lines in a hosts.toml, between two comments. */
export interface Block {
  readonly origin: BlockOrigin
  /** From the first comment to the last one, without the end of the last line. */
  readonly lines: readonly string[]
}

/** A block that was found, and the text without it. */
export interface FoundBlock extends Block {
  readonly rest: string
  /** Where the block stands in the text. */
  readonly start: number
}

const BEGIN = '# >>> swarmirror hosts'
const END = '# <<< swarmirror hosts'
const BEGIN_LINE = /^# >>> swarmirror hosts(?: \((new file)?(?:, )?(?:made directories: ([1-9]\d?))?\))?$/

/**
 * Writes the block.
 *
 * @param rootLines what a new file says of the registry itself: these are keys of the root table, so nothing may stand
 * before them
 */
export function makeBlock(mirror: MirrorEntry, origin: BlockOrigin, rootLines: readonly string[] = []): Block {
  const known = [
    ...(origin.newFile ? ['new file'] : []),
    ...(origin.madeDirectories > 0 ? [`made directories: ${origin.madeDirectories}`] : []),
  ]
  const lines = [
    known.length === 0 ? BEGIN : `${BEGIN} (${known.join(', ')})`,
    '# Written by `swarmirror hosts`; `swarmirror hosts --remove` takes out all between these comments.',
    ...(rootLines.length === 0 ? [] : [...rootLines, '']),
    `[host.${quote(mirror.url)}]`,
    `  capabilities = [${mirror.capabilities.map(quote).join(', ')}]`,
    ...(mirror.dialTimeout === undefined ? [] : [`  dial_timeout = ${quote(mirror.dialTimeout)}`]),
    END,
  ]
  return { origin, lines }
}

/** A TOML basic string. JSON's strings are TOML's but for a few characters that neither URLs nor file names here have. */
export function quote(text: string): string {
  return JSON.stringify(text).replace(/[\u007f-\u009f]/g, (character) => `\\u00${character.charCodeAt(0).toString(16)}`)
}

/** Whether a text may have our block: files without need not be understood to be left alone. */
export function mentionsBlock(text: string): boolean {
  return text.includes(BEGIN) || text.includes(END)
}

/**
 * Finds our block.
 *
 * @returns nothing if there is none
 * @throws {HostsError} if only a part of it is there, or there are two
 * @throws {TomlError} if the text is not TOML
 */
export function findBlock(text: string): FoundBlock | undefined {
  const comments = parseTomlSyntax(text).comments.map(({ range: [start, end], loc }) => ({
    start,
    end,
    text: text.slice(start, end).trimEnd(),
    line: loc.start.line,
    ownLine: start === 0 || text[start - 1] === '\n',
  }))
  const marks = comments.filter(({ text }) => text.startsWith(BEGIN) || text.startsWith(END))
  const [begin, end, third] = marks
  if (begin === undefined) return undefined
  const [, newFile, made = '0'] = BEGIN_LINE.exec(begin.text) ?? []
  const whole = BEGIN_LINE.test(begin.text) && end?.text === END && third === undefined
  if (!whole || end === undefined || !begin.ownLine || !end.ownLine) {
    const { line } = begin.text.startsWith(BEGIN) ? (third ?? begin) : begin
    throw new HostsError('the comments around what swarmirror wrote are not both there, once, as they were', line)
  }
  const lineEnd = text.indexOf('\n', end.start)
  const atEnd = lineEnd < 0
  // A block without an end of line at the text's end brought the end of line before it.
  const start = atEnd ? begin.start - endOfLineBefore(text, begin.start) : begin.start
  return {
    origin: { newFile: newFile !== undefined, madeDirectories: Number(made) },
    lines: text.slice(begin.start, end.end).split(/\r?\n/),
    rest: text.slice(0, start) + (atEnd ? '' : text.slice(lineEnd + 1)),
    start,
  }
}

function endOfLineBefore(text: string, at: number): number {
  if (at === 0) return 0
  return text[at - 2] === '\r' ? 2 : 1
}
