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

export interface Command {
  readonly name: string
  /** One line for `--help`. */
  readonly summary: string
  /** Does it all; an exit code of 0 if it resolves. A ConfigurationError becomes 78, any other error 1. */
  run(context: CommandContext): Promise<void>
}

/** Exit code for a configuration that cannot work: EX_CONFIG of sysexits.h. */
export const EX_CONFIG = 78
