import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import process from 'node:process'
import { createInterface } from 'node:readline'
import * as v from 'valibot'
import { unlessAborted } from '../platform/abort.ts'

/** How many lines of the mirror's log are kept, for the error if it does not become ready. */
const MOST_LINES = 100

/** Addresses of a mirror's doors, as `host:port`. */
const DOORS = v.object({ registry: v.string(), peer: v.string(), admin: v.string() })
type Doors = v.InferOutput<typeof DOORS>

/** The lines of the log that matter here. A runtime writes its own lines as well. */
const ENTRY = v.pipe(
  v.string(),
  v.parseJson(),
  v.variant('event', [
    v.object({ event: v.literal('listening'), ...DOORS.entries }),
    v.object({ event: v.literal('ready') }),
  ]),
)

/** A mirror in its own process. */
export interface MirrorProcess extends Doors {
  readonly pid: number
  /** Asks the mirror to end and returns its exit code; kills it if the signal aborts first. */
  stop(signal: AbortSignal): Promise<number | null>
  /** Kills the mirror if it still runs. */
  kill(): Promise<void>
}

/**
 * Starts this program as a mirror and waits until it is ready.
 *
 * @param onLine called with every line of its log, as long as it runs
 * @throws with the log, if the mirror ends before that or the signal aborts first
 */
export async function startMirrorProcess(
  [program, ...args]: readonly [string, ...string[]],
  flags: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
  onLine: (line: string) => void = () => undefined,
): Promise<MirrorProcess> {
  // The caller's variables are settings of another mirror.
  const env = Object.fromEntries(Object.entries(environment).filter(([name]) => !name.startsWith('SWARMIRROR_')))
  const child = spawn(program, [...args, 'serve', ...flags], { env, stdio: ['ignore', 'ignore', 'pipe'] })
  const exited = once(child, 'exit').then(([code]) => code as number | null)
  const { pid } = child
  // A program that cannot be started has no process id and never exits. Waiting for its end fails with the reason.
  if (pid === undefined)
    throw new Error(`${program} cannot be started`, { cause: await exited.catch((error) => error) })
  const running = () => child.exitCode === null && child.signalCode === null
  const kill = async () => {
    if (running()) child.kill('SIGKILL')
    await exited
  }
  try {
    const doors = await untilReady(child, signal, onLine)
    const stop = async (deadline: AbortSignal) => {
      // By its process id: after child.kill(), Deno reports the signal as the way it ended, whatever its exit code was.
      if (running()) process.kill(pid, 'SIGTERM')
      return await unlessAborted(exited, deadline).catch(async () => {
        await kill()
        return await exited
      })
    }
    return { ...doors, pid, stop, kill }
  } catch (error) {
    await kill()
    throw error
  }
}

async function untilReady(child: ChildProcess, signal: AbortSignal, onLine: (line: string) => void) {
  if (child.stderr === null) throw new Error('the standard error of the mirror is not a pipe')
  const said: string[] = []
  let doors: Doors | undefined
  const ready = Promise.withResolvers<Doors>()
  // Read standard error to its end, or the pipe would fill up and the mirror would stand still.
  const lines = createInterface({ input: child.stderr })
  lines.on('line', (line) => {
    onLine(line)
    const { success, output } = v.safeParse(ENTRY, line)
    if (success && output.event === 'listening') doors = v.parse(DOORS, output)
    if (success && output.event === 'ready' && doors !== undefined) ready.resolve(doors)
    if (said.length < MOST_LINES) said.push(line)
  })
  lines.once('close', () => ready.reject(new Error(`a mirror ended before it was ready:\n${said.join('\n')}`)))
  return await unlessAborted(ready.promise, signal)
}
