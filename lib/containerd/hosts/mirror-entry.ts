import { escaped } from '../../observe/log.ts'
import { hostOf, SETTINGS } from '../../settings/settings.ts'
import { parseTomlSyntax } from '../../toml/toml.ts'
import { shellWord } from '../rule.ts'
import { type Endpoint, HostsError, leadsTo } from './endpoint.ts'

/** What a hosts.toml must say about our mirror. */
export interface MirrorEntry {
  /** Where containerd reaches the registry door, such as `http://127.0.0.1:5000`. */
  readonly url: string
  readonly capabilities: readonly ('pull' | 'resolve')[]
}

/** Where containerd reaches a registry door; one on all addresses is reached on loopback. */
export function mirrorUrlFor(listen: { readonly host: string; readonly port: number }): string {
  return `http://${hostOf(listen.host)}:${listen.port}`
}

/**
 * @param listen the registry door
 * @param resolve who says what a tag means
 */
export function mirrorEntryFor(
  listen: { readonly host: string; readonly port: number },
  resolve: 'fallback' | 'upstream' | 'swarm',
): MirrorEntry {
  return {
    url: mirrorUrlFor(listen),
    // Without "resolve" containerd first resolves a tag upstream, and then comes here for the content.
    capabilities: resolve === 'upstream' ? ['pull'] : ['pull', 'resolve'],
  }
}

/** Whether containerd asks the mirror through a host, and for the right things. */
export function isRight(host: Endpoint, mirror: MirrorEntry): boolean {
  return leadsTo(host, mirror.url) && hasCapabilities(host, mirror)
}

export function hasCapabilities({ capabilities }: Endpoint, mirror: MirrorEntry): boolean {
  return [...new Set(capabilities)].sort().join() === [...mirror.capabilities].sort().join()
}

/** What hosts.toml files on this node should say, and what the commands that write them depend on. */
export interface HostsCheck {
  readonly certsDir: string
  /** The mirrored registries; by default all. */
  readonly registries: readonly string[] | undefined
  readonly mirror: MirrorEntry
  /** As containerd tells it, if it could be asked. */
  readonly version: string | undefined
  /** What starts this program, in a shell, for the commands that remedies tell. */
  readonly program: string
}

/**
 * The shell command that corrects hosts.toml.
 *
 * @param flags the registries: `--registries` or `--also`, with a comma list; without them all, through `_default`
 */
export function hostsCommand(
  flags: { readonly registries?: readonly string[] | undefined; readonly also?: readonly string[] },
  { certsDir, mirror, program }: Pick<HostsCheck, 'certsDir' | 'mirror' | 'program'>,
): string {
  const given: readonly (readonly [flag: string, value: string | undefined, fallback?: string])[] = [
    ['--registries', flags.registries?.join(',')],
    ['--also', flags.also?.join(',')],
    ['--certs-dir', certsDir, SETTINGS['certs-dir'].default],
    ['--listen', mirror.url.slice('http://'.length), SETTINGS.listen.default],
    ['--resolve', mirror.capabilities.includes('resolve') ? undefined : 'upstream'],
  ]
  const words = given.map(([flag, value, fallback]) =>
    value === undefined || value === fallback ? '' : ` ${flag} ${shellWord(value)}`,
  )
  return `${program} hosts${words.join('')}`
}

const BEGIN = '# >>> swarmirror hosts'
const END = '# <<< swarmirror hosts'
const NEW_FILE = `${BEGIN} (new file)`

/**
 * Our lines in a hosts.toml, between two comments.
 *
 * @param isNewFile whether the file is made for them: then it goes with them
 */
export function makeBlock(mirror: MirrorEntry, isNewFile: boolean): string[] {
  return [
    isNewFile ? NEW_FILE : BEGIN,
    '# Written by `swarmirror hosts`; `swarmirror hosts --remove` takes out all between these comments.',
    `[host.${quote(mirror.url)}]`,
    `  capabilities = [${mirror.capabilities.map(quote).join(', ')}]`,
    END,
  ]
}

/** A TOML basic string: JSON's, but for a few characters that no URL here has. */
function quote(text: string): string {
  return escaped(JSON.stringify(text), /[\u007f-\u009f]/g)
}

/**
 * Finds our block. A text without the block's comments need not be TOML.
 *
 * @returns whether the file exists only for the block, its lines from the first comment to the last, the text without it, and the
 *   line of its first comment; nothing if there is no block
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
  const isNewFile = begin.text === NEW_FILE
  const isBegin = isNewFile || begin.text === BEGIN
  if (!isBegin || end?.text !== END || third !== undefined || !begin.ownLine || !end.ownLine) {
    const { line } = begin.text.startsWith(BEGIN) ? (third ?? begin) : begin
    throw new HostsError(
      'the comments that enclose the lines of swarmirror must both be there, once, as it wrote them',
      line,
    )
  }
  const lineEnd = text.indexOf('\n', end.start)
  const before = text.slice(0, begin.start)
  return {
    isNewFile,
    lines: text.slice(begin.start, end.end).split(/\r?\n/),
    // A block at the text's end without a line feed brought the line feed before it.
    rest: lineEnd < 0 ? before.replace(/\r?\n$/, '') : before + text.slice(lineEnd + 1),
    line: begin.line,
  }
}
