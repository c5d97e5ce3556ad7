import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { cleanEnvironment } from './command.ts'
import type { Namespace } from './namespace.ts'
import { stateOf } from './run.ts'
import { Hopeless, until } from './wait.ts'

/** Longest time from SIGTERM to the exit, in milliseconds: above the mirror's own bound for draining transfers. */
const STOP_TIMEOUT_MS = 60_000

/** How many of a log's last characters go into an error message. */
const TAIL = 4_000

export interface DaemonOptions {
  /** Names the log files. */
  readonly name: string
  /** Tells a person which daemon it is. */
  readonly title: string
  readonly namespace: Namespace
  /** Where `<name>.stdout` and `<name>.stderr` are written; restarts append to them. */
  readonly logDirectory: string
  readonly command: string
  /** Called at every start, so that arguments may change in between. */
  readonly args: () => readonly string[]
  /** Whether it does its work now. Called again and again until it does; throwing means "not yet". */
  readonly ready: (daemon: Daemon) => boolean | Promise<boolean>
}

/** How a process ended: its exit code, or the signal that ended it. */
export type Exit = number | NodeJS.Signals

/** A long-running process in a namespace that can be started, stopped, killed and paused as often as a test likes. */
export class Daemon {
  readonly title: string
  readonly #options: DaemonOptions
  readonly #logs: Record<'stdout' | 'stderr', string>
  #child: ChildProcess | undefined
  #exited: Promise<Exit> = Promise.reject(new Error('never started'))
  #started = { stdout: 0, stderr: 0 }

  constructor(options: DaemonOptions) {
    this.#options = options
    this.title = options.title
    this.#logs = {
      stdout: join(options.logDirectory, `${options.name}.stdout`),
      stderr: join(options.logDirectory, `${options.name}.stderr`),
    }
    this.#exited.catch(() => undefined)
  }

  get running(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** @throws {Error} when it does not run */
  get pid(): number {
    const pid = this.running ? this.#child?.pid : undefined
    if (pid === undefined) throw new Error(`${this.title} does not run`)
    return pid
  }

  /** How the last start ended; rejects if the command could not start at all. */
  get exited(): Promise<Exit> {
    return this.#exited
  }

  /** Starts it and waits until it is ready. */
  async start(): Promise<void> {
    this.spawn()
    await this.ready()
  }

  /** Starts it without waiting. */
  spawn(): void {
    if (this.running) throw new Error(`${this.title} runs already`)
    const { namespace, command, args } = this.#options
    const stdout = openSync(this.#logs.stdout, 'a')
    const stderr = openSync(this.#logs.stderr, 'a')
    this.#started = { stdout: statSync(this.#logs.stdout).size, stderr: statSync(this.#logs.stderr).size }
    const [wrapper, wrapped] = namespace.wrap(command, args())
    // Detached: a Ctrl-C at the terminal reaches only the test, which then ends everything in its own order.
    const child = spawn(wrapper, wrapped, {
      env: cleanEnvironment(),
      stdio: ['ignore', stdout, stderr],
      detached: true,
    })
    closeSync(stdout)
    closeSync(stderr)
    this.#child = child
    const { promise, resolve, reject } = Promise.withResolvers<Exit>()
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'SIGKILL'))
    promise.catch(() => undefined)
    this.#exited = promise
  }

  /** Waits until it is ready. */
  async ready(): Promise<void> {
    await until(`${this.title} to be ready`, async () => {
      if (!this.running)
        throw new Hopeless(`${this.title} ended with ${await this.#exited}:\n${this.output('stderr', TAIL)}`)
      return await this.#options.ready(this)
    }).catch((error: unknown) => {
      throw error instanceof Hopeless ? error : new Error(`${error}:\n${this.output('stderr', TAIL)}`, { cause: error })
    })
  }

  /** Asks it to end (SIGTERM), waits until it has, and says how. */
  async stop(): Promise<Exit> {
    process.kill(this.pid, 'SIGTERM')
    await until(`${this.title} to end after SIGTERM`, () => !this.running, { timeoutMs: STOP_TIMEOUT_MS })
    return this.#exited
  }

  /** Ends it without notice (SIGKILL), and waits until it is gone. */
  async kill(): Promise<void> {
    process.kill(this.pid, 'SIGKILL')
    await this.#exited
  }

  /** Stops it (gracefully unless told to kill) and starts it again. */
  async restart(how: 'stop' | 'kill' = 'stop'): Promise<void> {
    await this[how]()
    await this.start()
  }

  /** Freezes it (SIGSTOP): its sockets stay open and silent. A frozen process can be killed, but not stopped. */
  async pause(): Promise<void> {
    const { pid } = this
    process.kill(pid, 'SIGSTOP')
    await until(`${this.title} to be frozen`, () => stateOf(pid) === 'T')
  }

  /** Ends {@link pause}. */
  async resume(): Promise<void> {
    const { pid } = this
    process.kill(pid, 'SIGCONT')
    await until(`${this.title} to go on`, () => stateOf(pid) !== 'T')
  }

  /** What it has written since its last start, or the last `tail` characters of that. */
  output(stream: 'stdout' | 'stderr', tail = Number.POSITIVE_INFINITY): string {
    const text = readFileSync(this.#logs[stream]).subarray(this.#started[stream]).toString()
    return text.length > tail ? text.slice(-tail) : text
  }

  /** The paths of its logs, which hold all of its starts. */
  get logFiles(): readonly string[] {
    return Object.values(this.#logs)
  }
}
