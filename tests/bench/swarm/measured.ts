import type { RuntimeName } from '../../../lib/platform/runtime.ts'
import type { NodeAddress } from '../../../lib/swarm/node.ts'
import { type KeyName, type KeyRange, keyOf } from '../../swarm/content.ts'
import type { NodeUsage, Tuning } from '../../swarm/protocol.ts'
import { WorkerProcess } from '../../swarm/worker-process.ts'
import type { Fleet } from './fleet.ts'

const SETTLE_TIMEOUT = 600_000
const NODE = 'measured'

/** Wall and CPU time in milliseconds. */
export interface Cost {
  readonly took: number
  readonly cpu: number
}

/** A node of ours, alone in its process, so that what the process uses is what the node uses. */
export class MeasuredNode {
  readonly address: NodeAddress
  readonly #worker: WorkerProcess

  private constructor(worker: WorkerProcess, address: NodeAddress) {
    this.#worker = worker
    this.address = address
  }

  static async start(runtime: RuntimeName, fleet: Fleet, tuning: Tuning = {}): Promise<MeasuredNode> {
    const node = new MeasuredNode(new WorkerProcess(runtime), fleet.addresses.next())
    await node.#worker.call('start', { node: NODE, self: node.address, bootstrap: fleet.bootstrap, tuning })
    return node
  }

  advertise(ranges: readonly KeyRange[]): Promise<object> {
    return this.#worker.call('advertise', { node: NODE, ranges })
  }

  withdraw(ranges: readonly KeyRange[]): Promise<object> {
    return this.#worker.call('withdraw', { node: NODE, ranges })
  }

  /** The cost of `change` until it has reached the swarm. */
  async costOf(change: () => Promise<object>): Promise<Cost> {
    const before = await this.usage()
    const begin = performance.now()
    await change()
    await this.#worker.call('settle', { node: NODE, timeout: SETTLE_TIMEOUT })
    const took = performance.now() - begin
    return { took, cpu: (await this.usage()).cpu - before.cpu }
  }

  /** Looks up one name after another; for each the milliseconds to the first peer, or null if there was none. */
  async lookup(names: readonly KeyName[], timeout = 2_000): Promise<(number | null)[]> {
    const result: (number | null)[] = []
    for (const name of names) {
      const { peers, took } = await this.#worker.call('lookup', { node: NODE, key: keyOf(name), timeout, all: false })
      result.push(peers.length > 0 ? took : null)
    }
    return result
  }

  async usage(): Promise<NodeUsage & { readonly cpu: number; readonly residentMebibytes: number }> {
    const { cpu, residentMebibytes, nodes } = await this.#worker.call('usage', {})
    return { ...(nodes[0] as NodeUsage), cpu, residentMebibytes }
  }

  async end(): Promise<void> {
    await this.#worker.end()
  }

  async kill(): Promise<void> {
    await this.#worker.kill()
  }
}
