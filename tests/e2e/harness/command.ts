import { spawn, spawnSync } from 'node:child_process'
import { environmentOfPrograms } from '../../fixtures/programs.ts'

/** Longest time that a command may take, in milliseconds, unless the caller says otherwise. */
const COMMAND_TIMEOUT_MS = 120_000

/** The most bytes kept of a command's standard output, and of its standard error; larger output belongs in a file. */
const OUTPUT_LIMIT = 16 << 20

export interface CommandOptions {
  /** The command's standard input. */
  readonly input?: string
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

export interface CommandResult {
  readonly command: string
  /** The exit code, or the name of the signal that ended the command. */
  readonly code: number | NodeJS.Signals
  readonly stdout: string
  readonly stderr: string
}

/** A command that was expected to succeed and did not. */
export class CommandError extends Error {
  override readonly name = 'CommandError'
  readonly result: CommandResult

  constructor(result: CommandResult) {
    super(`${result.command}\nended with ${result.code}:\n${result.stderr}${result.stdout}`)
    this.result = result
  }
}

/** The environment of everything that the harness starts: the caller's settings do not leak into it. */
export function cleanEnvironment(): Record<string, string> {
  return { ...environmentOfPrograms(), LANG: 'C.UTF-8' }
}

/** Runs a command to its end, whatever its exit code. Kills it when it takes longer than `timeoutMs`. */
export function tryRun(command: string, args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const { input, timeoutMs = COMMAND_TIMEOUT_MS, signal } = options
  const { promise, resolve, reject } = Promise.withResolvers<CommandResult>()
  const child = spawn(command, args, {
    env: cleanEnvironment(),
    killSignal: 'SIGKILL',
    timeout: timeoutMs,
    ...(signal === undefined ? {} : { signal }),
  })
  const output = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
  for (const name of ['stdout', 'stderr'] as const) {
    let size = 0
    child[name].on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size <= OUTPUT_LIMIT) output[name].push(chunk)
    })
  }
  child.on('error', reject)
  child.on('close', (code, killedBy) => {
    resolve({
      command: [command, ...args].join(' '),
      code: code ?? killedBy ?? 'SIGKILL',
      stdout: Buffer.concat(output.stdout).toString(),
      stderr: Buffer.concat(output.stderr).toString(),
    })
  })
  // A command that ends without reading its input closes the pipe; its exit code tells what matters.
  child.stdin.on('error', (error: NodeJS.ErrnoException) => error.code !== 'EPIPE' && reject(error))
  child.stdin.end(input ?? '')
  return promise
}

/**
 * Runs a command that must succeed, and returns its standard output.
 *
 * @throws {CommandError} when its exit code is not 0
 */
export async function run(command: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const result = await tryRun(command, args, options)
  if (result.code !== 0) throw new CommandError(result)
  return result.stdout
}

/** Runs a command while the process exits, when nothing asynchronous runs any more. Returns what it printed. */
export function runSync(command: string, args: readonly string[]): { ok: boolean; stdout: string; stderr: string } {
  const result = spawnSync(command, args, { encoding: 'utf8', env: cleanEnvironment(), timeout: COMMAND_TIMEOUT_MS })
  return { ok: result.status === 0, stdout: result.stdout ?? '', stderr: result.stderr ?? String(result.error ?? '') }
}
