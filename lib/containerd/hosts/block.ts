import { escaped } from '../../observe/log.ts'
import { parseTomlSyntax } from '../../toml/toml.ts'
import { HostsError } from './endpoint.ts'
import type { MirrorEntry } from './mirror-entry.ts'

/** What was there before our block was written. The block itself says it, so that removing it needs nothing else. */
interface BlockOrigin {
  /** Whether the file was made for the block. */
  readonly newFile: boolean
  /** How many directories were made for the file: its own, the one above it, and so on. */
  readonly madeDirectories: number
}

const BEGIN = '# >>> swarmirror hosts'
const END = '# <<< swarmirror hosts'
const BEGIN_LINE = /^# >>> swarmirror hosts(?: \((new file)?(?:, )?(?:made directories: ([1-9]\d?))?\))?$/

/**
 * Our lines in a hosts.toml, between two comments.
 *
 * @param rootLines what a new file says of the registry itself: keys of the root table, so nothing may stand before them
 */
export function makeBlock(mirror: MirrorEntry, origin: BlockOrigin, rootLines: readonly string[] = []): string[] {
  const known = [
    ...(origin.newFile ? ['new file'] : []),
    ...(origin.madeDirectories > 0 ? [`made directories: ${origin.madeDirectories}`] : []),
  ]
  return [
    known.length === 0 ? BEGIN : `${BEGIN} (${known.join(', ')})`,
    '# Written by `swarmirror hosts`; `swarmirror hosts --remove` takes out all between these comments.',
    ...(rootLines.length === 0 ? [] : [...rootLines, '']),
    `[host.${quote(mirror.url)}]`,
    `  capabilities = [${mirror.capabilities.map(quote).join(', ')}]`,
    ...(mirror.dialTimeout === undefined ? [] : [`  dial_timeout = ${quote(mirror.dialTimeout)}`]),
    END,
  ]
}

/** A TOML basic string: JSON's, but for a few characters that neither URLs nor file names here have. */
export function quote(text: string): string {
  return escaped(JSON.stringify(text), /[\u007f-\u009f]/g)
}

/**
 * Finds our block. A text without its comments need not be TOML.
 *
 * @returns what its first comment tells, its lines from that one to the last, the text without it, and the line of its first
 *   comment; nothing if there is none
 * @throws {HostsError} if only a part of it is there, or there are two
 * @throws {TomlError} if the text is not TOML
 */
export function findBlock(text: string) {
  if (!text.includes(BEGIN) && !text.includes(END)) return undefined
  const marks = parseTomlSyntax(text)
    .comments.map(({ range: [start, end], loc }) => ({
      start,
      end,
      text: text.slice(start, end).trimEnd(),
      line: loc.start.line,
      ownLine: start === 0 || text[start - 1] === '\n',
    }))
    .filter((comment) => comment.text.startsWith(BEGIN) || comment.text.startsWith(END))
  const [begin, end, third] = marks
  if (begin === undefined) return undefined
  const first = BEGIN_LINE.exec(begin.text)
  if (first === null || end?.text !== END || third !== undefined || !begin.ownLine || !end.ownLine) {
    const { line } = begin.text.startsWith(BEGIN) ? (third ?? begin) : begin
    throw new HostsError(
      'the comments that enclose the lines of swarmirror must both be there, once, as it wrote them',
      line,
    )
  }
  const [, newFile, made = '0'] = first
  const lineEnd = text.indexOf('\n', end.start)
  const before = text.slice(0, begin.start)
  return {
    origin: { newFile: newFile !== undefined, madeDirectories: Number(made) } satisfies BlockOrigin,
    lines: text.slice(begin.start, end.end).split(/\r?\n/),
    // A block without an end of line at the text's end brought the end of line before it.
    rest: lineEnd < 0 ? before.replace(/\r?\n$/, '') : before + text.slice(lineEnd + 1),
    line: begin.line,
  }
}
