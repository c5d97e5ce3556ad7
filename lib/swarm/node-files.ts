import { hkdfSync, randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { isIPv4 } from 'node:net'
import { join } from 'node:path'
import b4a from 'b4a'
import * as v from 'valibot'
import { readDocument, writeDocument } from '../observe/document.ts'
import type { Logger } from '../observe/log.ts'
import { addressOf } from '../platform/address.ts'
import type { NodeAddress } from './node.ts'

const IDENTITY_FILE = 'identity.json'
const NODES_FILE = 'nodes.json'
/** Nodes to keep for the next start: many more than need to be alive then to find the swarm again. */
const MOST_NODES = 200

const Identity = v.object({ seed: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)) })
const Port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535))
const Nodes = v.array(v.object({ host: v.pipe(v.string(), v.check(isIPv4)), port: Port }))

/**
 * The files in which a node keeps what it needs at its next start, in a directory of their own: the seed of its swarm
 * identity, and the nodes that it knew last. Files are replaced in one step; a damaged one is logged, put aside and made anew.
 */
export class NodeFiles {
  readonly seed: Uint8Array
  readonly #dir: string
  readonly #log: Logger
  #nodes: readonly NodeAddress[]
  #writing: Promise<void> = Promise.resolve()

  private constructor(dir: string, log: Logger, seed: Uint8Array, nodes: readonly NodeAddress[]) {
    this.#dir = dir
    this.#log = log
    this.seed = seed
    this.#nodes = nodes
  }

  /** @throws the system's error if the directory cannot be made or written */
  static async open(dir: string, log: Logger): Promise<NodeFiles> {
    await mkdir(dir, { recursive: true, mode: 0o700 })
    const identity = await readDocument(join(dir, IDENTITY_FILE), Identity, log)
    const nodes = await readDocument(join(dir, NODES_FILE), Nodes, log)
    const seed = identity === undefined ? randomBytes(32) : b4a.from(identity.seed, 'hex')
    if (identity === undefined) await writeDocument(join(dir, IDENTITY_FILE), { seed: b4a.toString(seed, 'hex') })
    return new NodeFiles(dir, log, new Uint8Array(seed), nodes ?? [])
  }

  /**
   * The seed of the node's identity at an address. A node that has moved is another one to others, and so is one that was given
   * a copy of these files.
   */
  seedAt({ host, port }: NodeAddress): Uint8Array {
    return new Uint8Array(hkdfSync('sha256', this.seed, '', `swarmirror/identity/1 ${addressOf({ host, port })}`, 32))
  }

  /** The nodes known last. */
  get nodes(): readonly NodeAddress[] {
    return this.#nodes
  }

  /**
   * Keeps the nodes for the next start, before those that were known earlier: a node that finds no others forgets none. The
   * file is written only if a node is new. A failure to write is logged, since the mirror works without.
   */
  remember(nodes: readonly NodeAddress[]): void {
    const present = new Map(nodes.map(({ host, port }) => [addressOf({ host, port }), { host, port }]))
    const earlier = new Map(this.#nodes.map((node) => [addressOf(node), node]))
    const stayed = [...earlier].filter(([name]) => present.has(name))
    const left = [...earlier].filter(([name]) => !present.has(name))
    // In a swarm of more nodes than are kept, those that stay come first, or every call would keep others and write.
    const kept = [...new Map([...stayed, ...present, ...left])].slice(0, MOST_NODES)
    if (kept.every(([name]) => earlier.has(name))) return
    this.#nodes = kept.map(([, node]) => node)
    this.#writing = this.#writing
      .then(() => writeDocument(join(this.#dir, NODES_FILE), this.#nodes))
      .catch((error) => this.#log.warn('cannot write the known nodes', { dir: this.#dir, error }))
  }

  /** Waits until the known nodes are on disk. */
  async close(): Promise<void> {
    await this.#writing
  }
}
