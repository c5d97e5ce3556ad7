/**
 * A rollout as a cluster lives it (as root, with what tests/e2e needs): every node pulls one image, directly from the
 * registry and through the mirrors, in the same run.
 *
 *   node tests/bench/rollout.ts [--nodes 10] [--link 500] [--images 10x1,10x4,100x1,100x4,1000x1,1000x4]
 *                               [--patterns update,create] [--runtime bun] [--rounds 1] [--plot FILE.svg]
 *
 * `--link` is what each node and the registry can send and receive, in Mbit/s (`tc` token buckets). An image is its size in
 * MB and its number of layers. `update` replaces a fifth of the nodes at a time, the next fifth as soon as the one before has
 * the image; `create` lets all pull at once.
 */
import { writeFile } from 'node:fs/promises'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { type Cluster, createCluster, type Node, type PushedImage, REGISTRY_NAME } from '../e2e/harness/index.ts'
import { defaultRuntime, REGISTRY_DOOR, type Runtime } from '../e2e/harness/mirror.ts'
import { printTable } from './figures.ts'
import { type Bar, plotRollouts } from './rollout-plot.ts'

/** How many times the nodes of an update take turns. */
const STEPS = 5
const WAYS = ['direct', 'mirrored'] as const
const PATTERNS = ['update', 'create'] as const

type Way = (typeof WAYS)[number]
type Pattern = (typeof PATTERNS)[number]

interface ImageShape {
  readonly megabytes: number
  readonly layers: number
}

/** What one rollout took. */
interface Rollout {
  /** Seconds of each node's pull. */
  readonly pulls: readonly number[]
  /** Bytes that left the registry, in sizes of the image. */
  readonly upstream: number
}

interface Plan {
  readonly nodes: number
  /** In Mbit/s. */
  readonly link: number
  readonly images: readonly ImageShape[]
  readonly patterns: readonly Pattern[]
  readonly runtime: Runtime
  readonly rounds: number
  readonly plot: string | undefined
}

const plan = readPlan(process.argv.slice(2))
const cluster = await createCluster({
  registry: true,
  nodes: Array.from({ length: plan.nodes }, (_, index) => ({
    name: `n${index + 1}`,
    runtime: plan.runtime,
    // As users have it, other than the harness.
    flags: { 'lookup-timeout': undefined, 'log-level': 'info' },
  })),
})
try {
  const bytesPerSecond = (plan.link * 1_000_000) / 8
  for (const { network } of [...cluster.nodes, cluster.registry]) {
    await network.shape('out', bytesPerSecond)
    await network.shape('in', bytesPerSecond)
  }
  const bars: Bar[] = []
  console.log(
    `\n${plan.nodes} nodes, links of ${plan.link} Mbit/s, mirrors on ${plan.runtime}; seconds of a node's pull, and what left the registry in sizes of the image:\n`,
  )
  const rows: string[][] = []
  for (const shape of plan.images) {
    for (const pattern of plan.patterns) {
      const results = await measure(cluster, shape, pattern)
      rows.push(row(shape, pattern, results))
      bars.push({
        label: `${nameOf(shape)} ${pattern}`,
        direct: average(results.direct.pulls),
        mirrored: average(results.mirrored.pulls),
      })
      console.error(rows.at(-1)?.join('  '))
    }
  }
  const columns = ['average', 'slowest', 'upstream'].flatMap((what) => WAYS.map((way) => `${what} ${way}`))
  printTable(['image', 'pattern', ...columns, 'average, mirrored / direct'], rows)
  if (plan.plot !== undefined) {
    const title = `Average pull of ${plan.nodes} nodes, links of ${plan.link} Mbit/s`
    await writeFile(plan.plot, plotRollouts(title, bars))
    console.log(`\nplot: ${plan.plot}`)
  }
} finally {
  await cluster.close()
}

/** Both ways in turns, with an image of their own each round, so that nobody has anything of it. */
async function measure(cluster: Cluster, shape: ImageShape, pattern: Pattern): Promise<Record<Way, Rollout>> {
  const results: Record<Way, Rollout[]> = { direct: [], mirrored: [] }
  for (let round = 1; round <= plan.rounds; round++) {
    const seed = `${nameOf(shape)} ${pattern} ${round}`
    const size = Math.floor((shape.megabytes * 1_000_000) / shape.layers)
    const layers = Array.from({ length: shape.layers }, () => size)
    const image = await cluster.registry.push(
      await cluster.makeImage({ seed, layers }),
      `rollout/${seed.replaceAll(' ', '-').toLowerCase()}:v1`,
    )
    for (const way of WAYS) results[way].push(await rollOut(cluster, image, pattern, way))
  }
  return { direct: merge(results.direct), mirrored: merge(results.mirrored) }
}

async function rollOut(cluster: Cluster, image: PushedImage, pattern: Pattern, way: Way): Promise<Rollout> {
  const { registry, nodes } = cluster
  const url = way === 'direct' ? registry.url : REGISTRY_DOOR
  for (const node of nodes) await node.writeHosts(REGISTRY_NAME, { server: registry.url, hosts: [{ url }] })
  const before = await registry.network.carried()
  const pulls: number[] = []
  for (const group of groupsOf(nodes, pattern)) {
    pulls.push(...(await Promise.all(group.map((node) => timed(() => node.pull(image.reference))))))
  }
  const after = await registry.network.carried()
  const bytes = image.own.layers.reduce((sum, { size }) => sum + size, 0)
  for (const node of nodes) await node.removeImage(image.reference)
  for (const node of nodes) await node.untilGone(image)
  return { pulls, upstream: (after.out - before.out) / bytes }
}

/** Who pulls at the same time. */
function groupsOf(nodes: readonly Node[], pattern: Pattern): Node[][] {
  if (pattern === 'create') return [[...nodes]]
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

function merge(rollouts: readonly Rollout[]): Rollout {
  return {
    pulls: rollouts.flatMap(({ pulls }) => pulls),
    upstream: average(rollouts.map(({ upstream }) => upstream)),
  }
}

function row(shape: ImageShape, pattern: Pattern, results: Record<Way, Rollout>): string[] {
  const each = (figure: (rollout: Rollout) => number, digits: number) =>
    WAYS.map((way) => figure(results[way]).toFixed(digits))
  const ratio = average(results.mirrored.pulls) / average(results.direct.pulls)
  return [
    nameOf(shape),
    pattern,
    ...each(({ pulls }) => average(pulls), 2),
    ...each(({ pulls }) => Math.max(...pulls), 2),
    ...each(({ upstream }) => upstream, 1),
    ratio.toFixed(2),
  ]
}

function nameOf({ megabytes, layers }: ImageShape): string {
  return `${megabytes} MB in ${layers}`
}

function average(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

function readPlan(args: string[]): Plan {
  const { values } = parseArgs({
    args,
    options: {
      nodes: { type: 'string', default: '10' },
      link: { type: 'string', default: '500' },
      images: { type: 'string', default: '10x1,10x4,100x1,100x4,1000x1,1000x4' },
      patterns: { type: 'string', default: PATTERNS.join(',') },
      runtime: { type: 'string', default: process.env.E2E_RUNTIME ?? 'bun' },
      rounds: { type: 'string', default: '1' },
      plot: { type: 'string' },
    },
  })
  const count = (name: 'nodes' | 'link' | 'rounds') => {
    const value = Number(values[name])
    if (!Number.isInteger(value) || value < 1)
      throw new Error(`--${name} ${values[name]}: expected a whole number above 0`)
    return value
  }
  const images = values.images.split(',').map((text) => {
    const [, megabytes, layers] = /^([1-9]\d*)x([1-9]\d*)$/.exec(text) ?? []
    if (megabytes === undefined || layers === undefined)
      throw new Error(`--images ${text}: expected MEGABYTESxLAYERS, such as 100x4`)
    return { megabytes: Number(megabytes), layers: Number(layers) }
  })
  const patterns = values.patterns.split(',').map((text) => {
    const pattern = PATTERNS.find((name) => name === text)
    if (pattern === undefined) throw new Error(`--patterns ${text}: expected ${PATTERNS.join(' or ')}`)
    return pattern
  })
  process.env.E2E_RUNTIME = values.runtime
  return {
    nodes: count('nodes'),
    link: count('link'),
    images,
    patterns,
    runtime: defaultRuntime(),
    rounds: count('rounds'),
    plot: values.plot,
  }
}
