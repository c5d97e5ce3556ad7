import { readdirSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hexOf } from '../../../lib/oci/digest.ts'
import type { RuntimeName } from '../../../lib/platform/runtime.ts'
import { residentMebibytes } from '../../bench/figures.ts'
import { stateOf } from '../../e2e/harness/run.ts'
import { type NamedImage, writeIndex, writeLayout } from '../../fixtures/image.ts'
import { type MirrorProcess, startMirrorProcess } from '../../fixtures/mirror-process.ts'
import { RUNTIMES } from '../../fixtures/programs.ts'

/** The longest time that a mirror may take to start or stop, in milliseconds: above its own bound for draining transfers. */
const STEP_BOUND = 40_000

export interface LayoutNodeOptions {
  readonly name: string
  /** A loopback address of its own: nothing else uses it, so the doors keep their ports over restarts. */
  readonly host: string
  readonly runtime: RuntimeName
  readonly directory: string
  readonly flags: readonly string[]
}

/** A mirror on an embedded OCI image layout, as a process that comes and goes while its directory and address stay. */
export class LayoutNode {
  readonly options: LayoutNodeOptions
  readonly holds = new Map<string, NamedImage>()
  state: 'down' | 'starting' | 'up' | 'paused' | 'stopping' = 'down'
  /** Counts the starts: work that began with an earlier process is lost. */
  generation = 0
  /** The pulls through it. */
  pulls = 0
  #process: MirrorProcess | undefined
  /** The last change of the layout. */
  #written: Promise<void> = Promise.resolve()

  constructor(options: LayoutNodeOptions) {
    this.options = options
  }

  get name(): string {
    return `${this.options.name} on ${this.options.runtime}`
  }

  /** The registry door. */
  get door(): { host: string; port: number } {
    return { host: this.options.host, port: 5000 }
  }

  /** @throws {Error} when it is down */
  get pid(): number {
    if (this.#process === undefined) throw new Error(`${this.name} is down`)
    return this.#process.pid
  }

  /** The number of open descriptors, and resident memory in MiB. */
  usage(): { descriptors: number; memory: number } {
    return { descriptors: readdirSync(`/proc/${this.pid}/fd`).length, memory: residentMebibytes(this.pid) }
  }

  async start(): Promise<void> {
    const { host, runtime, directory, flags } = this.options
    this.state = 'starting'
    this.generation += 1
    if (this.generation === 1) await writeLayout(directory, [])
    const doors = ['--listen', `${host}:5000`, '--peer-listen', `${host}:5001`, '--admin-listen', `${host}:5002`]
    const all = [
      '--store',
      `oci-layout:${directory}`,
      '--resolve',
      'swarm',
      ...doors,
      '--advertise-host',
      host,
      ...flags,
    ]
    this.#process = await startMirrorProcess(RUNTIMES[runtime], all, process.env, AbortSignal.timeout(STEP_BOUND))
    this.state = 'up'
  }

  /** Leaves gracefully. @throws {Error} when the exit code is not 0 */
  async stop(): Promise<void> {
    this.state = 'stopping'
    const code = await this.#process?.stop(AbortSignal.timeout(STEP_BOUND))
    this.state = 'down'
    if (code !== 0) throw new Error(`${this.name} ended with ${code} after SIGTERM`)
  }

  async kill(): Promise<void> {
    this.state = 'down'
    await this.#process?.kill()
    this.#process = undefined
  }

  pause(): void {
    this.state = 'paused'
    process.kill(this.pid, 'SIGSTOP')
  }

  resume(): void {
    process.kill(this.pid, 'SIGCONT')
    this.state = 'up'
  }

  /** @throws {Error} when its process has ended by itself */
  assertAlive(): void {
    if (this.state !== 'up' && this.state !== 'paused') return
    const state = stateOf(this.pid)
    if (state === undefined || state === 'Z') throw new Error(`${this.name} has ended by itself`)
  }

  /** Puts an image into its layout: first the content, then the name that leads to it. */
  hold(name: string, named: NamedImage): Promise<void> {
    return this.#oneAtATime(async () => {
      const blobs = join(this.options.directory, 'blobs', 'sha256')
      for (const { descriptor, bytes } of named.image.contents) {
        const partial = join(this.options.directory, 'partial')
        await writeFile(partial, bytes)
        await rename(partial, join(blobs, hexOf(descriptor.digest)))
      }
      this.holds.set(name, named)
      await writeIndex(this.options.directory, [...this.holds.values()])
    })
  }

  /** Takes an image out of its layout; its blobs stay on disk, but nothing leads to them. */
  drop(name: string): Promise<void> {
    return this.#oneAtATime(async () => {
      this.holds.delete(name)
      await writeIndex(this.options.directory, [...this.holds.values()])
    })
  }

  #oneAtATime(work: () => Promise<void>): Promise<void> {
    this.#written = this.#written.then(work)
    return this.#written
  }
}
