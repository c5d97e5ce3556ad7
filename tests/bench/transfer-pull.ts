import type { RuntimeName } from '../../lib/platform/runtime.ts'
import {
  type Cluster,
  CONTAINERD,
  containerdConfig,
  createCluster,
  Daemon,
  metricsOf,
  type Node,
  type NodeOptions,
  type PushedImage,
  REGISTRY_DOOR,
  REGISTRY_NAME,
  requestsFor,
  totalOf,
} from '../e2e/harness/index.ts'
import { cpuSeconds, median, printTable } from './figures.ts'
import { configureNginx, nginxProxying, nginxWorker } from './servers.ts'

const LAYERS = [250_000_000, 250_000_000, 250_000_000, 250_000_000]
const ROUNDS = 3
/** What a node and the registry may send in the second part, in bytes per second: the links of many clusters, 1 Gbit/s. */
const LINK = 125_000_000

/** Where containerd gets the image. */
interface Way {
  /** The node that pulls. */
  readonly node: string
  readonly shown: string
  /** The most that is expected, as a ratio to the direct pull's time. */
  readonly expected?: number
  /** The node whose mirror gives the image; if missing, the registry does. */
  readonly peer?: string
}

const DIRECT: Way = { node: 'direct', shown: 'docker-registry, directly' }
const WAYS: readonly Way[] = [
  DIRECT,
  { node: 'nginx', shown: 'docker-registry, through nginx instead of a mirror' },
  { node: 'plain', shown: 'one peer, through the mirror', expected: 1.05, peer: 'plainpeer' },
  { node: 'tls', shown: 'one peer, through the mirror, TLS', expected: 1.25, peer: 'tlspeer' },
]

interface Pull {
  readonly seconds: number
  /** CPU seconds of containerd, of the giver of the image, and of the processes between them. */
  readonly cpu: readonly number[]
  /** Bytes that the giver's link carried, and bytes that a giving mirror counted. */
  readonly sent: number
  readonly counted: number
}

export interface PullOptions {
  /** Bytes of the chunks in which containerd 2 fetches each layer, several at a time; one request for each if missing. */
  readonly parallelFetch: number | undefined
}

/**
 * A containerd's pulls of 1 GB, in turns: directly, through nginx on its node (what one more hop costs at least: nothing is
 * verified there), through its mirror from one peer, and the same with TLS between the mirrors. Everything (registry, both
 * mirrors, containerd with its unpacking) shares this machine's cores, which is what bounds them without a bounded link.
 */
export async function benchPulls(runtimes: readonly RuntimeName[], options: PullOptions): Promise<void> {
  for (const runtime of runtimes) await benchPullsOn(runtime, options)
}

async function benchPullsOn(runtime: RuntimeName, options: PullOptions): Promise<void> {
  const cluster = await createCluster({ nodes: nodesOf(runtime, options), registry: true })
  try {
    const { registry } = cluster
    await cluster.node(DIRECT.node).writeHosts(REGISTRY_NAME, { server: registry.url, hosts: [{ url: registry.url }] })
    const nginx = await startNginx(cluster)
    const image = await registry.push(await cluster.makeImage({ seed: 'bench', layers: LAYERS }), 'bench/pull:v1')
    for (const { peer } of WAYS) if (peer !== undefined) await cluster.node(peer).pull(image.reference)

    for (const link of [undefined, LINK]) {
      const senders = WAYS.flatMap(({ peer }) => (peer === undefined ? [] : [cluster.node(peer).network]))
      if (link !== undefined) for (const network of [registry.network, ...senders]) await network.shape('out', link)
      const pulls = new Map<Way, Pull[]>(WAYS.map((way) => [way, []]))
      for (let round = 0; round <= ROUNDS; round++) {
        for (const way of WAYS) {
          const one = await pull(cluster, image, way, nginx)
          // The first round warms up page cache and compilers.
          if (round > 0) pulls.get(way)?.push(one)
        }
      }
      const links = link === undefined ? 'unbounded links' : 'links of 1 Gbit/s'
      const { parallelFetch } = options
      const fetching = parallelFetch === undefined ? '' : ` in parallel chunks of ${parallelFetch} bytes`
      console.log(
        `\nPull of 1 GB in 4 layers${fetching}, containerd ${CONTAINERD.text}, mirrors on ${runtime}, ${links}, median of ${ROUNDS} rounds in turns:\n`,
      )
      print(pulls)
    }
  } finally {
    await cluster.close()
  }
}

function nodesOf(runtime: RuntimeName, { parallelFetch }: PullOptions): NodeOptions[] {
  // Two swarms in one network: those without TLS and those with it do not see each other's topics.
  const flags = (key: string, transfer: 'plain' | 'tls') => ({
    'swarm-key': key.repeat(32),
    'peer-transfer': transfer,
    'log-level': 'info',
  })
  const nodes: NodeOptions[] = [
    { name: 'direct', start: ['containerd'] },
    { name: 'nginx', start: ['containerd'] },
    { name: 'plainpeer', runtime, flags: flags('1a', 'plain') },
    { name: 'plain', runtime, flags: flags('1a', 'plain') },
    { name: 'tlspeer', runtime, flags: flags('2b', 'tls') },
    { name: 'tls', runtime, flags: flags('2b', 'tls') },
  ]
  if (parallelFetch === undefined) return nodes
  return nodes.map((node) => ({ ...node, containerdConfig: containerdConfig({ parallelFetch }) }))
}

/** Starts nginx where that node's containerd expects a mirror, in front of the registry; returns the worker's process id. */
async function startNginx(cluster: Cluster): Promise<number> {
  const node = cluster.node('nginx')
  const directory = await node.makeDirectory('nginx')
  const configuration = await configureNginx(
    directory,
    new URL(REGISTRY_DOOR).host,
    nginxProxying(cluster.registry.url),
  )
  const daemon = new Daemon({
    name: 'nginx',
    title: 'nginx',
    namespace: node.network,
    logDirectory: directory,
    command: 'nginx',
    args: () => ['-c', configuration],
    ready: async () => (await node.tryExec('curl', ['-sf', `${REGISTRY_DOOR}/v2/`])).code === 0,
  })
  await daemon.start()
  return nginxWorker(daemon.pid)
}

/** Pulls the image as that way says, and removes it again. */
async function pull(cluster: Cluster, image: PushedImage, way: Way, nginx: number): Promise<Pull> {
  const { registry } = cluster
  const asker = cluster.node(way.node)
  if (way.peer !== undefined) await asker.untilOffered(image)
  await asker.exec('sync', [])
  const pids = [
    asker.containerd.pid,
    ...(way.peer === undefined ? [registry.daemon.pid] : peerPids(cluster, way.peer, asker)),
  ]
  if (way.node === 'nginx') pids.push(nginx)
  const giver = way.peer === undefined ? registry : cluster.node(way.peer)
  const figures = async () => ({
    sent: (await giver.network.carried()).out,
    counted:
      way.peer === undefined
        ? Number.NaN
        : totalOf(await metricsOf(cluster.node(way.peer)), 'bytes', 'door="peer",source="local"'),
  })
  const earlier = await figures()
  let seconds = Number.NaN
  let cpu: number[] = []
  const asked = await registry.requestsDuring(async () => {
    const before = pids.map(cpuSeconds)
    const start = performance.now()
    await asker.pull(image.reference)
    seconds = (performance.now() - start) / 1000
    cpu = pids.map((pid, index) => cpuSeconds(pid) - (before[index] ?? 0))
  })
  const upstream = requestsFor(image.digests, asked)
  if (way.peer !== undefined && upstream.length > 0) throw new Error(`upstream was asked: ${JSON.stringify(upstream)}`)
  const later = await figures()
  await asker.removeImage(image.reference)
  return { seconds, cpu, sent: later.sent - earlier.sent, counted: later.counted - earlier.counted }
}

function peerPids(cluster: Cluster, peer: string, asker: Node): number[] {
  return [cluster.node(peer).mirror.pid, asker.mirror.pid]
}

function print(pulls: ReadonlyMap<Way, readonly Pull[]>): void {
  const secondsOf = (way: Way) => (pulls.get(way) ?? []).map(({ seconds }) => seconds)
  const direct = median(secondsOf(DIRECT))
  const size = LAYERS.reduce((sum, layer) => sum + layer)
  const rows = WAYS.map((way) => {
    const all = secondsOf(way)
    const images = (part: 'sent' | 'counted') => median((pulls.get(way) ?? []).map((one) => one[part])) / size
    const cpu = [0, 1, 2].map((part) => median((pulls.get(way) ?? []).flatMap((one) => one.cpu[part] ?? [])))
    return [
      way.shown,
      median(all).toFixed(2),
      all.map((seconds) => seconds.toFixed(2)).join(' '),
      (median(all) / direct).toFixed(2),
      String(way.expected ?? ''),
      images('sent').toFixed(3),
      Number.isNaN(images('counted')) ? '' : images('counted').toFixed(3),
      ...cpu.map((seconds) => (Number.isNaN(seconds) ? '' : seconds.toFixed(2))),
    ]
  })
  const processes = ['CPU s of containerd', 'of who gives', 'of what is between']
  const images = ['images sent', 'images counted']
  printTable(['from', 's', 'all rounds', 'of direct', 'expected at most', ...images, ...processes], rows)
}
