import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Answer, Command } from './worker.ts'

const BIN = fileURLToPath(new URL('../../../../node_modules/.bin/', import.meta.url))
const WORKER = fileURLToPath(new URL('./worker.ts', import.meta.url))

/** A kind of peer: the addon (on Node), or lib/udx on one of the runtimes. */
export type Kind = 'addon' | 'node' | 'deno' | 'bun'

const COMMANDS: Readonly<Record<Kind, readonly [string, ...string[]]>> = {
  addon: ['node', WORKER],
  node: ['node', WORKER],
  deno: ['deno', 'run', '-A', '--no-check', '--quiet', WORKER],
  bun: ['bun', WORKER],
}

/** Whether the tests run on Node; those that start other runtimes run there only, once for all. */
export const onNode = !('Bun' in globalThis) && !('Deno' in globalThis)

export interface StartOptions {
  readonly loss?: number
  readonly seed?: number
  readonly mutate?: number
  /** Port of the bootstrapper on 127.0.0.1; without it the peer is one. */
  readonly bootstrap?: number
  /** Name of the network namespace to run in. */
  readonly namespace?: string
}

/** A peer in its own process. */
export class Peer {
  readonly kind: Kind
  readonly process: ChildProcess
  readonly exited: Promise<number | null>
  #waiting: ((answer: Answer) => void)[] = []
  #killed = false

  constructor(kind: Kind, namespace?: string) {
    this.kind = kind
    const [runtime, ...args] = COMMANDS[kind]
    const inside = namespace === undefined ? [] : ['ip', 'netns', 'exec', namespace]
    const [command, ...rest] = [...inside, `${BIN}${runtime}`, ...args] as [string, ...string[]]
    this.process = spawn(command, rest, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.exited = new Promise((resolve) => {
      this.process.once('exit', (code) => {
        for (const answer of this.#waiting.splice(0)) answer({ ok: false, error: `the process ended with ${code}` })
        resolve(code)
      })
    })
    if (this.process.stdout === null) throw new Error('no stdout')
    createInterface({ input: this.process.stdout }).on('line', (line) =>
      this.#waiting.shift()?.(JSON.parse(line) as Answer),
    )
  }

  /** Starts a peer and waits until it has joined. */
  static async start(
    kind: Kind,
    { namespace, ...options }: StartOptions = {},
  ): Promise<Peer & { readonly port: number }> {
    const peer = new Peer(kind, namespace)
    const implementation = kind === 'addon' ? 'addon' : 'lib'
    try {
      const { port = 0 } = await peer.do({ do: 'start', implementation, ...options })
      return Object.assign(peer, { port })
    } catch (error) {
      await peer.kill()
      throw error
    }
  }

  /** Sends a command that must succeed. */
  async do(command: Command): Promise<Answer> {
    const answer = await this.try(command)
    if (!answer.ok) throw new Error(`${this.kind}: ${command.do}: ${answer.error}`)
    return answer
  }

  /** Sends a command that may fail, one at a time. */
  try(command: Command): Promise<Answer> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
      this.process.stdin?.write(`${JSON.stringify(command)}\n`)
    })
  }

  /** Kills the process without notice. */
  async kill(): Promise<void> {
    this.#killed = true
    this.process.kill('SIGKILL')
    await this.exited
  }

  /** Lets the peer close everything; its process has to end by itself within the time (ms). @returns whether it did. */
  async stop(patience = 12_000): Promise<boolean> {
    if (this.#killed) return true
    await this.try({ do: 'stop' })
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<false>((resolve) => {
      timer = setTimeout(() => resolve(false), patience)
    })
    const ended = await Promise.race([this.exited.then((code) => code === 0), late])
    clearTimeout(timer)
    if (!ended) this.process.kill('SIGKILL')
    return ended
  }
}
