import HyperDHT from 'hyperdht'
import type { NodeAddress } from '../../lib/swarm/node.ts'
import type { NodeUsage } from './protocol.ts'

/** The parts of a DHT node that this reads. None of them is public, and none is changed. */
interface Inside {
  readonly nodes: { readonly length: number }
  readonly stats: { readonly requests: { total: number; retries: number; timeouts: number } }
  readonly udx: { readonly packetsReceived: number }
}

/**
 * Watches the DHT nodes that this process creates from now on, by their addresses.
 *
 * @returns a function that returns the figures of a node, and throws if there was none at that address
 */
export function watchNodes(): (self: NodeAddress) => Omit<NodeUsage, 'node' | 'records'> {
  const made = new Map<string, Inside>()
  const { bootstrapper } = HyperDHT
  HyperDHT.bootstrapper = (port, host, options) => {
    const dht = bootstrapper.call(HyperDHT, port, host, options)
    made.set(`${host}:${port}`, dht as unknown as Inside)
    dht.once('close', () => made.delete(`${host}:${port}`))
    return dht
  }
  return ({ host, port }) => {
    const inside = made.get(`${host}:${port}`)
    if (inside === undefined) throw new Error(`no DHT node was made for ${host}:${port}`)
    const { total, retries, timeouts } = inside.stats.requests
    return {
      neighbours: inside.nodes.length,
      requests: total,
      retries,
      timeouts,
      received: inside.udx.packetsReceived,
    }
  }
}
