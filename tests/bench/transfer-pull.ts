import { createCluster, type Node, type NodeOptions, REGISTRY_NAME, requestsFor } from '../e2e/harness/index.ts'
import { median, printTable } from './figures.ts'
import type { RuntimeName } from './servers.ts'

const LAYERS = [250_000_000, 250_000_000, 250_000_000, 250_000_000]
const ROUNDS = 3
/** What a node and the registry may send in the second part, in bytes per second: the links of many clusters, 1 Gbit/s. */
const LINK = 125_000_000
/** What is expected at most, as a part of the direct pull's time. */
const EXPECTED = { plain: 1.05, tls: 1.25 } as const

/**
 * A containerd's pulls of 1 GB, in turns: directly, through its mirror from one peer, and the same with TLS between the
 * mirrors. Everything (registry, both mirrors, containerd with its unpacking) shares this machine's cores, which is what
 * bounds them without a bounded link.
 */
export async function benchPulls(runtimes: readonly RuntimeName[]): Promise<void> {
  for (const runtime of runtimes) await benchPullsOn(runtime)
}

async function benchPullsOn(runtime: RuntimeName): Promise<void> {
  // Two swarms in one network: those without TLS and those with it do not see each other's topics.
  const swarm = (key: string, transfer: 'plain' | 'tls') => ({
    'swarm-key': key.repeat(32),
    'peer-transfer': transfer,
    'log-level': 'info',
  })
  const options: NodeOptions[] = [
    { name: 'direct', start: ['containerd'] },
    ...(['plain', 'tls'] as const).flatMap((transfer, index) => {
      const flags = swarm(['1a', '2b'][index] ?? '', transfer)
      return [
        { name: `${transfer}peer`, runtime, flags },
        { name: transfer, runtime, flags },
      ]
    }),
  ]
  const cluster = await createCluster({ nodes: options, registry: true })
  try {
    const { registry } = cluster
    const node = (name: string) => cluster.node(name)
    await node('direct').writeHosts(REGISTRY_NAME, { server: registry.url, hosts: [{ url: registry.url }] })
    const image = await registry.push(await cluster.makeImage({ seed: 'bench', layers: LAYERS }), 'bench/pull:v1')
    for (const peer of ['plainpeer', 'tlspeer']) await node(peer).pull(image.reference)

    const pull = async (asker: Node): Promise<number> => {
      if (asker.name !== 'direct') await asker.untilOffered(image)
      await asker.exec('sync', [])
      let seconds = Number.NaN
      const asked = await registry.requestsDuring(async () => {
        const start = performance.now()
        await asker.pull(image.reference)
        seconds = (performance.now() - start) / 1000
      })
      const upstream = requestsFor(image.digests, asked)
      if (asker.name !== 'direct' && upstream.length > 0)
        throw new Error(`upstream was asked: ${JSON.stringify(upstream)}`)
      await asker.removeImage(image.reference)
      return seconds
    }
    const askers = ['direct', 'plain', 'tls'].map(node)
    for (const bounded of [false, true]) {
      const senders = [registry.network, node('plainpeer').network, node('tlspeer').network]
      if (bounded) for (const network of senders) await network.shape('out', LINK)
      const times = new Map<Node, number[]>(askers.map((asker) => [asker, []]))
      for (let round = 0; round <= ROUNDS; round++) {
        for (const asker of askers) {
          const seconds = await pull(asker)
          // The first round warms up page cache and compilers.
          if (round > 0) times.get(asker)?.push(seconds)
        }
      }
      const link = bounded ? 'links of 1 Gbit/s' : 'unbounded links'
      console.log(`\nPull of 1 GB in 4 layers, mirrors on ${runtime}, ${link}, median of ${ROUNDS} rounds in turns:\n`)
      const direct = median(times.get(node('direct')) ?? [])
      printTable(
        ['from', 's', 'all rounds', 'of direct', 'expected at most'],
        askers.map((asker) => {
          const own = times.get(asker) ?? []
          const expected = asker.name === 'direct' ? '' : String(EXPECTED[asker.name as keyof typeof EXPECTED])
          const rounds = own.map((seconds) => seconds.toFixed(2)).join(' ')
          return [
            SHOWN[asker.name] ?? asker.name,
            median(own).toFixed(2),
            rounds,
            (median(own) / direct).toFixed(2),
            expected,
          ]
        }),
      )
    }
  } finally {
    await cluster.close()
  }
}

const SHOWN: Readonly<Record<string, string>> = {
  direct: 'docker-registry, directly',
  plain: 'one peer, through the mirror',
  tls: 'one peer, through the mirror, TLS',
}
