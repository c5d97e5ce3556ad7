/**
 * A rollout as a cluster lives it (as root, with what tests/e2e needs): every node pulls one image, directly from the
 * registry and through the mirrors, in the same run, beside one node that pulls it alone.
 *
 *   node tests/bench/rollout.ts [--nodes 10] [--link 500] [--images 10x1,10x4,100x1,100x4,1000x1,1000x4]
 *                               [--patterns update,create] [--ways solo,unshared,direct,mirrored] [--runtime bun|node|deno|executable] [--rounds 1]
 *                               [--age 65] [--parallel-fetch BYTES] [--results FILE.json] [--plot FILE.svg]
 *
 * `--link` is what each node and the registry can send and receive, in Mbit/s (`tc` token buckets). An image is its size in
 * MB and its number of layers. `update` replaces a fifth of the nodes at a time, the next fifth as soon as the one before has
 * the image; `create` lets all pull at once; `one` has a single node pull what nobody else wants. Without the way `direct`,
 * ten nodes take a fifth of the time. The way `unshared` gives the registry a link with room for all nodes: what that takes
 * longer than one node alone is due to the machine. Mirrors run for `--age` seconds before the first pull, as those of a
 * cluster have. `--parallel-fetch` makes containerd 2 fetch each layer by several requests for so many bytes. With `--results`
 * it can be run in parts, of some images or one pattern each: table and plot show what the file has from all of them. The
 * containerd is the first in PATH; for 2.1: PATH="$(bash .ci/containerd-2):$PATH".
 */
import { writeFile } from 'node:fs/promises'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import {
  type Cluster,
  CONTAINERD,
  containerdConfig,
  createCluster,
  logLines,
  type Node,
  type PushedImage,
  REGISTRY_NAME,
  until,
} from '../e2e/harness/index.ts'
import { defaultRuntime, REGISTRY_DOOR } from '../e2e/harness/mirror.ts'
import { printTable } from './figures.ts'
import { watchProcessors } from './processors.ts'
import { type ImageShape, nameOf, type Pattern, readPlan, type Way } from './rollout-plan.ts'
import { plotRollouts } from './rollout-plot.ts'
import {
  COLUMNS,
  mergeRounds,
  type Result,
  type Rollout,
  readResults,
  remarksOn,
  rowOf,
  withResult,
  writeResults,
} from './rollout-results.ts'

/** How many times the nodes of an update take turns. */
const STEPS = 5
/** Milliseconds that one pull may take: the largest image takes five minutes. */
const LONGEST_PULL = 600_000
/**
 * The name under which nodes pull without their mirrors. With one name, `hosts.toml` would change for each way, and every mirror
 * would check its node again in the middle of the pulls.
 */
const DIRECT_NAME = 'direct.test'

const plan = readPlan(process.argv.slice(2))
const bytesPerSecond = (plan.link * 1_000_000) / 8
const { parallelFetch } = plan
const fetching = parallelFetch === undefined ? '' : `, layers in parallel chunks of ${parallelFetch} bytes`
const containerd = `containerd ${CONTAINERD.text}${fetching}`
let results = readResults(plan, containerd)
process.env.E2E_RUNTIME = plan.runtime
const runtime = defaultRuntime()
const cluster = await createCluster({
  registry: true,
  nodes: Array.from({ length: plan.nodes }, (_, index) => ({
    name: `n${index + 1}`,
    runtime,
    containerdConfig: containerdConfig(parallelFetch === undefined ? {} : { parallelFetch }),
    // The defaults of users, and not of the harness.
    flags: { 'lookup-timeout': undefined, 'log-level': 'info' },
  })),
})
try {
  await Promise.all([delay(plan.age * 1_000), ...cluster.nodes.map((node) => prepare(node, cluster.registry.url))])
  for (const shape of plan.images) {
    for (const pattern of plan.patterns) {
      const result = await measure(cluster, shape, pattern)
      results = withResult(results, result)
      if (plan.results !== undefined) writeResults(plan.results, results)
      console.error(rowOf(result).join('  '))
    }
  }
} finally {
  await cluster.close()
}
console.log(
  `\n${plan.nodes} nodes, links of ${plan.link} Mbit/s, mirrors on ${plan.runtime}, ${containerd}; seconds of a node's pull, what left the registry in sizes of the image, and how busy the processors were:\n`,
)
printTable(COLUMNS, results.results.map(rowOf))
for (const remark of remarksOn(results)) console.log(`\n${remark}`)
if (plan.plot !== undefined) {
  await writeFile(plan.plot, plotRollouts(results))
  console.log(`\nplot: ${plan.plot}`)
}

/** Bounds what a node can send and receive, and waits until its mirror has checked the files of both names. */
async function prepare(node: Node, url: string): Promise<void> {
  const checks = () => logLines(node.mirror).filter(({ event }) => event === 'checked').length
  const before = checks()
  await node.writeHosts(REGISTRY_NAME, { server: url, hosts: [{ url: REGISTRY_DOOR }] })
  await node.writeHosts(DIRECT_NAME, { server: url, hosts: [{ url }] })
  for (const direction of ['out', 'in'] as const) await node.network.shape(direction, bytesPerSecond)
  await until(`the mirror of ${node.name} to check its files`, () => checks() > before)
}

/** Measures all ways in turns, with a new image each round, so that no node has any of it. */
async function measure(cluster: Cluster, shape: ImageShape, pattern: Pattern): Promise<Result> {
  const rollouts = new Map<Way, Rollout[]>(plan.ways.map((way) => [way, []]))
  for (let round = 1; round <= plan.rounds; round++) {
    const seed = `${nameOf(shape)} ${pattern} ${round}`
    const size = Math.floor((shape.megabytes * 1_000_000) / shape.layers)
    const layers = Array.from({ length: shape.layers }, () => size)
    const image = await cluster.registry.push(
      await cluster.makeImage({ seed, layers }),
      `rollout/${seed.replaceAll(' ', '-').toLowerCase()}:v1`,
    )
    for (const [way, done] of rollouts) done.push(await rollOut(cluster, image, pattern, way))
  }
  const merged = [...rollouts].map(([way, done]) => [way, mergeRounds(done)])
  return { ...shape, pattern, ...Object.fromEntries(merged) }
}

async function rollOut(cluster: Cluster, image: PushedImage, pattern: Pattern, way: Way): Promise<Rollout> {
  const { registry, nodes } = cluster
  const reference = way === 'mirrored' ? image.reference : image.reference.replace(REGISTRY_NAME, DIRECT_NAME)
  const registryLink = way === 'unshared' ? bytesPerSecond * nodes.length : bytesPerSecond
  for (const direction of ['out', 'in'] as const) await registry.network.shape(direction, registryLink)
  const before = await registry.network.carried()
  const daemons = [registry.daemon, ...nodes.flatMap(({ containerd, mirror }) => [containerd, mirror])]
  const processors = watchProcessors(daemons.map(({ pid }) => pid))
  const startedAt = performance.now()
  const pulls: number[] = []
  for (const group of groupsOf(nodes, way === 'solo' ? 'one' : pattern)) {
    pulls.push(
      ...(await Promise.all(group.map((node) => timed(() => node.pull(reference, { timeoutMs: LONGEST_PULL }))))),
    )
  }
  const seconds = (performance.now() - startedAt) / 1000
  const use = processors()
  const after = await registry.network.carried()
  const bytes = image.own.layers.reduce((sum, { size }) => sum + size, 0)
  for (const node of nodes) await node.removeImage(reference)
  for (const node of nodes) await node.untilGone(image)
  const left = after.out - before.out
  return { pulls, upstream: left / bytes, upstreamLink: left / (seconds * registryLink), ...use }
}

/** The groups of nodes that pull at the same time. */
function groupsOf(nodes: readonly Node[], pattern: Pattern): Node[][] {
  if (pattern === 'create') return [[...nodes]]
  if (pattern === 'one') return [nodes.slice(0, 1)]
  const size = Math.ceil(nodes.length / STEPS)
  return Array.from({ length: Math.ceil(nodes.length / size) }, (_, step) =>
    nodes.slice(step * size, (step + 1) * size),
  )
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await work()
  return (performance.now() - start) / 1000
}
