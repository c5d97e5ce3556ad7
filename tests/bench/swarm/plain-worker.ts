// One node that announces and looks up as hyperdht does by itself, over the same sealed datagrams: does as it is told on its standard input.
import process from 'node:process'
import HyperDHT from 'hyperdht'
import { SwarmSeal } from '../../../lib/swarm/datagram-seal.ts'
import type { NodeAddress } from '../../../lib/swarm/node.ts'
import { topicOf } from '../../../lib/swarm/topic.ts'
import { createSealedBackend, runtimeBackend, UDX } from '../../../lib/udx/index.ts'
import { SWARM_KEY } from '../../fixtures/credentials.ts'
import { type KeyName, type KeyRange, keyOf, keysOf } from '../../swarm/content.ts'
import { serveCalls } from '../../swarm/lines.ts'

/** Times and CPU times in milliseconds. */
export interface PlainCalls {
  start: {
    readonly ask: { readonly self: NodeAddress; readonly bootstrap: readonly NodeAddress[] }
    readonly answer: object
  }
  announce: {
    readonly ask: { readonly ranges: readonly KeyRange[] }
    readonly answer: { readonly took: number; readonly cpu: number }
  }
  /** One after the other; for each the time to the first record, or nothing if there was none. */
  lookup: {
    readonly ask: { readonly names: readonly KeyName[] }
    readonly answer: { readonly took: readonly (number | null)[] }
  }
}

/** What keeps two cores busy, and loses no request (../shared/facts/hyperswarm.md). */
const CONCURRENCY = 16
const MAX_WINDOW = 1_000

const keyPair = HyperDHT.keyPair()
/** The nodes around it answer nothing else. */
const seal = new SwarmSeal({ swarmKeys: [SWARM_KEY], onRefused: () => undefined })
let node: { readonly dht: HyperDHT; readonly self: NodeAddress } | undefined

function started() {
  if (node === undefined) throw new Error('not started')
  return node
}

serveCalls<PlainCalls>(
  {
    async start({ self, bootstrap }) {
      const dht = HyperDHT.bootstrapper(self.port, self.host, {
        host: self.host,
        bootstrap,
        keyPair,
        maxWindow: MAX_WINDOW,
        udx: new UDX({ backend: createSealedBackend(runtimeBackend, seal) }),
      })
      await dht.fullyBootstrapped()
      node = { dht, self }
      return {}
    },

    async announce({ ranges }) {
      const { dht, self } = started()
      const topics = keysOf(ranges).map((key) => topicOf(SWARM_KEY, key))
      const cpu = process.cpuUsage()
      const begin = performance.now()
      const lane = async () => {
        for (let topic = topics.pop(); topic !== undefined; topic = topics.pop())
          await dht.announce(topic, keyPair, [self]).finished()
      }
      await Promise.all(Array.from({ length: CONCURRENCY }, lane))
      const { user, system } = process.cpuUsage(cpu)
      return { took: performance.now() - begin, cpu: (user + system) / 1_000 }
    },

    async lookup({ names }) {
      const { dht } = started()
      const took: (number | null)[] = []
      for (const name of names) {
        const begin = performance.now()
        let first: number | null = null
        for await (const { peers } of dht.lookup(topicOf(SWARM_KEY, keyOf(name)))) {
          if (peers.length === 0) continue
          first = performance.now() - begin
          break
        }
        took.push(first)
      }
      return { took }
    },
  },
  async () => {
    await node?.dht.destroy({ force: true })
  },
)
