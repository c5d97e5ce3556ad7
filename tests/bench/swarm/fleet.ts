import type { Key } from '../../../lib/oci/key.ts'
import type { NodeAddress } from '../../../lib/swarm/node.ts'
import { AddressBlock } from '../../swarm/addresses.ts'
import { type KeyName, keyOf } from '../../swarm/content.ts'
import { type SimulatedNode, SimulatedSwarm } from '../../swarm/swarm.ts'
import { WorkerProcess } from '../../swarm/worker-process.ts'

/** Processes that host the nodes around the measured one; on Node, whose addon needs the least CPU. */
const PROCESSES = 2
/** How many digests each of them holds, for lookups. */
const DIGESTS = 50
const SETTLE_TIMEOUT = 120_000
const LOOKUP_TIMEOUT = 2_000
const STARTING = 10

/** The swarm around the measured nodes. It only grows. */
export class Fleet {
  readonly addresses: AddressBlock
  readonly #workers: readonly WorkerProcess[]
  readonly #swarm: SimulatedSwarm
  /** Digests that were already looked up, and that the asker may remember. */
  readonly #asked = new Set<string>()

  private constructor(addresses: AddressBlock) {
    this.addresses = addresses
    this.#workers = Array.from({ length: PROCESSES }, () => new WorkerProcess())
    this.#swarm = new SimulatedSwarm(this.#workers, addresses, { seed: 1, digests: DIGESTS, shared: 0 })
  }

  static async start(): Promise<Fleet> {
    return new Fleet(await AddressBlock.reserve(1))
  }

  get size(): number {
    return this.#swarm.nodes.length
  }

  async grow(size: number): Promise<void> {
    while (this.size < size) {
      // The first node starts alone, because the others need its address.
      const count = this.size === 0 ? 1 : Math.min(STARTING, size - this.size)
      const nodes = await Promise.all(Array.from({ length: count }, () => this.#swarm.join()))
      await Promise.all(nodes.map((node) => this.#swarm.announce(node, SETTLE_TIMEOUT)))
    }
  }

  /** Some addresses for bootstrapping. */
  get bootstrap(): NodeAddress[] {
    return this.#swarm.settled.slice(0, 3).map(({ address }) => address)
  }

  /** Digests that its nodes hold, each given once. */
  unasked(count: number): KeyName[] {
    const names: KeyName[] = []
    while (names.length < count) {
      const name = this.#swarm.pickName(this.#swarm.pick(this.#swarm.settled))
      const text = `${name.set}/${name.index}`
      if (this.#asked.has(text)) continue
      this.#asked.add(text)
      names.push(name)
    }
    return names
  }

  get anyone(): SimulatedNode {
    return this.#swarm.pick(this.#swarm.settled)
  }

  /** Whether one of its nodes, a different one each time, finds the digest at that address. */
  async finds(name: KeyName, { host, port }: NodeAddress): Promise<boolean> {
    return await this.findsAll(keyOf(name), [`${host}:${port}`])
  }

  async findsAll(key: Key, addresses: readonly string[]): Promise<boolean> {
    const { peers } = await this.#swarm.lookup(this.anyone, key, LOOKUP_TIMEOUT)
    return addresses.every((address) => peers.includes(address))
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.kill()))
    await this.addresses.close()
  }
}
