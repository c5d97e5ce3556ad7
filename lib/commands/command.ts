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
  /** Aborts when the process is asked to end (SIGTERM, SIGINT). */
  readonly stop: AbortSignal
  /** The program and leading arguments that start this program again, for commands that need it as another process. */
  readonly self: readonly [program: string, ...args: string[]]
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

/** The scripts of package.json that run main.ts. */
const SCRIPTS: readonly string[] = ['node', 'deno', 'bun']

/** What a person types, before the arguments, to start this program in the same way again. */
export function programText({ self, environment }: Pick<CommandContext, 'self' | 'environment'>): string {
  const { npm_lifecycle_event: script } = environment
  if (script !== undefined && SCRIPTS.includes(script)) return `npm run ${script} --`
  return self.map(shellWord).join(' ')
}
