import type { Key } from '../../lib/oci/key.ts'
import type { NodeAddress } from '../../lib/swarm/node.ts'
import { createRandom } from '../unit/udx/support/random.ts'
import type { AddressBlock } from './addresses.ts'
import { countOf, holds, type KeyName, type KeyRange, makeContent, nameAt } from './content.ts'
import type { Ending, Lookup, Tuning, Usage } from './protocol.ts'
import type { WorkerProcess } from './worker-process.ts'

/** How many bootstrap nodes a new node has: a few, as in a deployment. */
const BOOTSTRAP = 3

export interface SwarmOptions {
  readonly seed: number
  /** How many digests each node holds, and the share of them (0 to 1) that others also hold. */
  readonly digests: number
  readonly shared: number
  readonly tuning?: Tuning | undefined
}

/** One node, and what it really holds. */
export class SimulatedNode {
  readonly name: string
  readonly address: NodeAddress
  readonly worker: WorkerProcess
  readonly content: readonly KeyRange[]
  /** Digests added one by one later, in the node's own set. */
  added = 0
  /** `settled`: everything that it holds has reached the swarm; `gone`: it stops or has stopped. */
  state: 'starting' | 'announcing' | 'settled' | 'gone' = 'starting'

  constructor(name: string, address: NodeAddress, worker: WorkerProcess, content: readonly KeyRange[]) {
    this.name = name
    this.address = address
    this.worker = worker
    this.content = content
  }

  get at(): string {
    return `${this.address.host}:${this.address.port}`
  }

  /** Whether it holds the digest, or once did. */
  everHeld(name: KeyName): boolean {
    return holds(this.content, name) || (name.set === this.#addedSet && name.index < this.added)
  }

  /** A digest that no node has ever had. */
  nextAdded(): KeyRange {
    const from = this.added++
    return { set: this.#addedSet, from, to: from + 1 }
  }

  get #addedSet(): string {
    return `${this.name}/added`
  }
}

/** A swarm of real nodes in some processes, and what each of them holds. */
export class SimulatedSwarm {
  readonly nodes: SimulatedNode[] = []
  readonly random: () => number
  readonly #workers: readonly WorkerProcess[]
  readonly #addresses: AddressBlock
  readonly #options: SwarmOptions

  constructor(workers: readonly WorkerProcess[], addresses: AddressBlock, options: SwarmOptions) {
    this.#workers = workers
    this.#addresses = addresses
    this.#options = options
    this.random = createRandom(options.seed)
  }

  get settled(): SimulatedNode[] {
    return this.nodes.filter(({ state }) => state === 'settled')
  }

  get present(): SimulatedNode[] {
    return this.nodes.filter(({ state }) => state === 'settled' || state === 'announcing')
  }

  /** Starts a node that knows some of the others. */
  async join(): Promise<SimulatedNode> {
    const index = this.nodes.length
    const { seed } = this.#options
    const worker = this.#workers[index % this.#workers.length] as WorkerProcess
    const content = makeContent(`seed-${seed}`, index, this.#options, this.random)
    const node = new SimulatedNode(`seed-${seed}/node-${index}`, this.#addresses.next(), worker, content)
    const others = this.present
    const bootstrap = Array.from({ length: Math.min(BOOTSTRAP, others.length) }, () => this.pick(others).address)
    this.nodes.push(node)
    await worker.call('start', { node: node.name, self: node.address, bootstrap, tuning: this.#options.tuning })
    node.state = 'announcing'
    return node
  }

  /** Lets a node announce what it holds. @returns milliseconds until all of it has reached the swarm */
  async announce(node: SimulatedNode, timeout: number): Promise<number> {
    await node.worker.call('advertise', { node: node.name, ranges: node.content })
    const { took } = await node.worker.call('settle', { node: node.name, timeout })
    if (node.state === 'announcing') node.state = 'settled'
    return took
  }

  async stop(node: SimulatedNode, how: Ending): Promise<boolean> {
    node.state = 'gone'
    const { complete } = await node.worker.call('stop', { node: node.name, how })
    return complete
  }

  lookup(asker: SimulatedNode, key: Key, timeout: number): Promise<Lookup> {
    return asker.worker.call('lookup', { node: asker.name, key, timeout, all: true })
  }

  /** Whether all addresses belong to nodes that hold the digest, or once did. */
  strangersAmong(peers: readonly string[], name: KeyName): string[] {
    const byAddress = new Map(this.nodes.map((node) => [node.at, node]))
    return peers.filter((peer) => byAddress.get(peer)?.everHeld(name) !== true)
  }

  usage(): Promise<Usage[]> {
    return Promise.all(this.#workers.map((worker) => worker.call('usage', {})))
  }

  pick<T>(among: readonly T[]): T {
    if (among.length === 0) throw new RangeError('nothing to pick from')
    return among[Math.floor(this.random() * among.length)] as T
  }

  pickName(node: SimulatedNode): KeyName {
    return nameAt(node.content, Math.floor(this.random() * countOf(node.content)))
  }
}
