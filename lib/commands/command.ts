import { shellWord } from '../containerd/rule.ts'
import type { SettingName } from '../settings/settings.ts'

/** Everything that a command gets from its process. */
export interface CommandContext {
  /** The arguments after the command's name. */
  readonly args: readonly string[]
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Writes text to standard output: the result of the command. */
  readonly print: (text: string) => void
  /** Writes text to standard error: logs and problems. */
  readonly report: (text: string) => void
  /** Whether a person reads standard output, and standard error, at a terminal. */
  readonly terminal: { readonly output: boolean; readonly errors: boolean }
  /** Aborts when the process is asked to end (SIGTERM, SIGINT). */
  readonly stop: AbortSignal
  /** The program and leading arguments that start this program again. */
  readonly self: readonly [program: string, ...args: string[]]
}

/** A command and the text of its help. */
export interface Command {
  readonly name: string
  /** One line. */
  readonly summary: string
  /** Arguments of a typical call. */
  readonly example?: string
  /** The command's own flags, which take no value, and their meanings. */
  readonly switches?: Readonly<Record<string, string>>
  /** The settings that the command reads; if missing, it takes no arguments. */
  readonly settings?: readonly SettingName[]
  /** Runs the command. The exit code is 0 if it resolves, 78 for a ConfigurationError, and 1 for any other error. */
  run(context: CommandContext): Promise<void>
}

/** Exit code for a configuration that cannot work: EX_CONFIG of sysexits.h. */
export const EX_CONFIG = 78

/** The scripts of package.json that run main.ts, and the package runners. Both put their name into npm's variable. */
const STARTERS: Readonly<Record<string, string>> = {
  node: 'npm run node --',
  deno: 'npm run deno --',
  bun: 'npm run bun --',
  start: 'npm run node --',
  npx: 'npx swarmirror',
  bunx: 'bunx --bun swarmirror',
}

/** The text before the arguments with which a person starts this program again in the same way. */
export function programText({ self, environment }: Pick<CommandContext, 'self' | 'environment'>): string {
  const starter = STARTERS[environment.npm_lifecycle_event ?? '']
  if (starter !== undefined) return starter
  return self.map(shellWord).join(' ')
}
