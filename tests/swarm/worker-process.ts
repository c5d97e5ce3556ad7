import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { RuntimeName } from '../../lib/platform/runtime.ts'
import type { Request, Response } from './lines.ts'
import type { Calls as NodeCalls } from './protocol.ts'

const BIN = fileURLToPath(new URL('../../node_modules/.bin/', import.meta.url))
const NODES = new URL('./worker.ts', import.meta.url)

const COMMANDS: Readonly<Record<RuntimeName, readonly [string, ...string[]]>> = {
  node: ['node'],
  deno: ['deno', 'run', '--allow-all', '--no-check', '--quiet'],
  bun: ['bun'],
}

type Ask<Calls, Name extends keyof Calls> = Calls[Name] extends { readonly ask: infer Ask } ? Ask : never
type Answer<Calls, Name extends keyof Calls> = Calls[Name] extends { readonly answer: infer Answer } ? Answer : never

/** A process that answers calls (see lines.ts); by default one that hosts nodes of a swarm. */
export class WorkerProcess<Calls extends object = NodeCalls> {
  readonly runtime: RuntimeName
  readonly #child: ChildProcess
  readonly #exited: Promise<number | null>
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>()
  #nextId = 1

  constructor(runtime: RuntimeName = 'node', program: URL = NODES) {
    this.runtime = runtime
    const [command, ...args] = COMMANDS[runtime]
    this.#child = spawn(`${BIN}${command}`, [...args, fileURLToPath(program)], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#exited = once(this.#child, 'exit').then(([code]) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`a worker ended with ${code}`))
      this.#waiting.clear()
      return code as number | null
    })
    if (this.#child.stdout === null) throw new Error('the standard output of a worker is not a pipe')
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#take(JSON.parse(line) as Response))
    // A worker may be killed in the middle of a call. Its calls then fail because it has ended.
    this.#child.stdin?.on('error', () => undefined)
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error('a worker could not be started')
    return this.#child.pid
  }

  /** @throws what the call threw in the worker, or that the worker has ended */
  async call<Name extends keyof Calls & string>(name: Name, ask: Ask<Calls, Name>): Promise<Answer<Calls, Name>> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) throw new Error('the worker has ended')
    const request: Request = { id: this.#nextId++, call: name, ask }
    const waiting = Promise.withResolvers<unknown>()
    this.#waiting.set(request.id, waiting)
    this.#child.stdin?.write(`${JSON.stringify(request)}\n`)
    return (await waiting.promise) as Answer<Calls, Name>
  }

  /** Ends it at once with all its nodes, like a power cut. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#exited
  }

  /** Lets it close its nodes and end by itself. @returns its exit code; `undefined` if it had to be killed after `patience` */
  async end(patience = 30_000): Promise<number | null> {
    this.#child.stdin?.end()
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), patience)
    try {
      return await this.#exited
    } finally {
      clearTimeout(timer)
    }
  }

  #take(response: Response): void {
    const waiting = this.#waiting.get(response.id)
    this.#waiting.delete(response.id)
    if ('error' in response) waiting?.reject(new Error(`in a worker: ${response.error}`))
    else waiting?.resolve(response.answer)
  }
}
