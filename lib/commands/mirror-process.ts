import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import process from 'node:process'
import { createInterface } from 'node:readline'

/** A mirror that runs as a process of its own. */
export interface MirrorProcess {
  readonly pid: number
  /** Addresses of its doors, as `host:port`. */
  readonly registry: string
  readonly peer: string
  readonly admin: string
  /** Asks it to end and gives its exit code; kills it when the signal aborts first. */
  stop(signal: AbortSignal): Promise<number | null>
  /** Ends it at once, if it still runs. */
  kill(): Promise<void>
}

/**
 * Starts this program as a mirror and waits until it is ready.
 *
 * @throws when it ends before that, with what it said; when the signal aborts first
 */
export async function startMirrorProcess(
  [program, ...args]: readonly [string, ...string[]],
  flags: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
): Promise<MirrorProcess> {
  // Settings of the caller's environment are for its own mirror, not for this one.
  const env = Object.fromEntries(Object.entries(environment).filter(([name]) => !name.startsWith('SWARMIRROR_')))
  const child = spawn(program, [...args, 'serve', ...flags], { env, stdio: ['ignore', 'ignore', 'pipe'] })
  const { pid } = child
  if (pid === undefined) throw new Error(`${program} cannot be started`)
  const exited = once(child, 'exit').then(([code]) => code as number | null)
  const kill = async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
    await exited
  }
  try {
    const doors = await untilReady(child, signal)
    const stop = async (deadline: AbortSignal) => {
      const late = () => child.kill('SIGKILL')
      deadline.addEventListener('abort', late, { once: true })
      // By its id: after child.kill(), Deno reports that signal as the way it ended, whatever its exit code was.
      process.kill(pid, 'SIGTERM')
      const code = await exited
      deadline.removeEventListener('abort', late)
      return code
    }
    return { ...doors, pid, stop, kill }
  } catch (error) {
    await kill()
    throw error
  }
}

async function untilReady(child: ChildProcess, signal: AbortSignal) {
  const said: string[] = []
  let doors: { registry: string; peer: string; admin: string } | undefined
  if (child.stderr === null) throw new Error('the standard error of the mirror is not a pipe')
  const lines = createInterface({ input: child.stderr })
  const aborted = () => lines.close()
  signal.addEventListener('abort', aborted, { once: true })
  try {
    for await (const line of lines) {
      said.push(line)
      const entry = readEntry(line)
      if (entry?.event === 'listening') doors = { registry: entry.registry, peer: entry.peer, admin: entry.admin }
      if (entry?.event === 'ready' && doors !== undefined) return doors
    }
  } finally {
    signal.removeEventListener('abort', aborted)
    // What it logs from now on is read and dropped, or its pipe would fill.
    child.stderr.resume()
  }
  signal.throwIfAborted()
  throw new Error(`a mirror ended before it was ready:\n${said.join('\n')}`)
}

interface Entry {
  readonly event: string
  readonly registry: string
  readonly peer: string
  readonly admin: string
}

/** A line of the log; what a runtime writes beside it is not one. */
function readEntry(line: string): Entry | undefined {
  return line.startsWith('{') ? (JSON.parse(line) as Entry) : undefined
}
