import { realpathSync } from 'node:fs'
import { basename, join, relative } from 'node:path'
import { shellWord } from '../containerd/rule.ts'
import type { SettingName } from '../settings/settings.ts'

/** What a command gets from the process that it runs in. */
export interface CommandContext {
  /** The arguments after the command's name. */
  readonly args: readonly string[]
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Writes text to standard output: what the command was asked for. */
  readonly print: (text: string) => void
  /** Writes text to standard error: logs and problems. */
  readonly report: (text: string) => void
  /** Whether a person reads standard output, and standard error, at a terminal. */
  readonly terminal: { readonly output: boolean; readonly errors: boolean }
  /** Aborts when the process is asked to end (SIGTERM, SIGINT). */
  readonly stop: AbortSignal
  /** The program and leading arguments that start this program again, for commands that need it as another process. */
  readonly self: readonly [program: string, ...args: string[]]
  /** The working directory. */
  readonly cwd: string
}

/** One command, with what its own help says of it. */
export interface Command {
  readonly name: string
  /** One line. */
  readonly summary: string
  /** Arguments of a typical call. */
  readonly example?: string
  /** Its own flags, which take no value, and what they mean. */
  readonly switches?: Readonly<Record<string, string>>
  /** The settings that matter to it; it takes no arguments if missing. */
  readonly settings?: readonly SettingName[]
  /** Does it all; an exit code of 0 if it resolves. A ConfigurationError becomes 78, any other error 1. */
  run(context: CommandContext): Promise<void>
}

/** Exit code for a configuration that cannot work: EX_CONFIG of sysexits.h. */
export const EX_CONFIG = 78

/** The scripts of package.json that run main.ts, and the runners of packages: both name themselves in npm's variable. */
const STARTERS: Readonly<Record<string, string>> = {
  node: 'npm run node --',
  deno: 'npm run deno --',
  bun: 'npm run bun --',
  start: 'npm run node --',
  npx: 'npx swarmirror',
  bunx: 'bunx --bun swarmirror',
}

/** What a person types, before the arguments, to start this program in the same way again. */
export function programText({ self, environment, cwd }: Pick<CommandContext, 'self' | 'environment' | 'cwd'>): string {
  const { npm_lifecycle_event: script = '', PATH = '' } = environment
  const starter = STARTERS[script]
  if (starter !== undefined) return starter
  const [program, ...args] = self
  // The last argument is the program's own file, if it is not the executable itself.
  const words = [nameOnPath(program, PATH), ...args.slice(0, -1), ...args.slice(-1).map((file) => nearby(file, cwd))]
  return words.map(shellWord).join(' ')
}

/** The name alone where a shell finds the same file by it; otherwise the path. */
function nameOnPath(program: string, path: string): string {
  const name = basename(program)
  const found = path.split(':').flatMap((dir) => realPath(join(dir, name)) ?? [])
  return found.length > 0 && found[0] === realPath(program) ? name : program
}

function realPath(path: string): string | undefined {
  try {
    return realpathSync(path)
  } catch {
    // Not there, or not for this user: a shell does not find it either.
    return undefined
  }
}

/** A path below the working directory is told from there on. */
function nearby(file: string, cwd: string): string {
  const way = relative(cwd, file)
  return way === '' || way.startsWith('..') ? file : way
}
