/**
 * A soak: eight mirrors on OCI image layouts, on loopback, join, leave, die, pause and pull at random. Needs no root.
 *
 * SOAK_SECONDS sets how long it takes (45 by default, besides beginning and end). SOAK_SEED decides what happens: the same seed makes
 * the same decisions in the same order, although not to the microsecond; the default is fixed. With an even seed the nodes speak
 * TLS. E2E_RUNTIME, if given, runs all mirrors on that runtime; otherwise they are mixed.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { RuntimeName } from '../../lib/platform/runtime.ts'
import { printTable } from '../bench/figures.ts'
import { until } from '../e2e/harness/wait.ts'
import { makeImage } from '../fixtures/image.ts'
import { ownAddress, PEER_PORT } from '../fixtures/loopback.ts'
import { RUNTIMES } from '../fixtures/programs.ts'
import { createRandom } from '../unit/udx/support/random.ts'
import { LayoutNode } from './support/layout-node.ts'
import { NodeLost, type PullImage, pullThrough, type Sources } from './support/layout-pull.ts'

const SECONDS = Number(process.env.SOAK_SECONDS ?? 45)
const SEED = Number(process.env.SOAK_SEED ?? 1)
const TRANSFER = SEED % 2 === 0 ? 'tls' : 'plain'
const NODES = 8
/** The first ones, one for each runtime, are paused but never ended: nothing may grow over their whole life. */
const LASTING = 3
const IMAGES = 16
const LAYERS = 3
/** Bytes of a layer: some are small, some take a while. */
const LAYER_SIZES = [100_000, 1_000_000, 4_000_000]
/** The most images that a node holds. */
const CAPACITY = 5
/** How many pulls run at the same time. */
const PULLERS = 4
/** The longest time between two events, in milliseconds. */
const EVENT_INTERVAL = 2_000
/** The longest pauses of a node, in milliseconds: its neighbours notice one and not the other. */
const PAUSE = 8_000
/** How long the last minutes' traffic may still show, in milliseconds: connections are kept for 30 s. */
const SETTLE_BOUND = 60_000
/** How many more descriptors than just after its start a mirror may have: connections to its neighbours come and go. */
const MORE_DESCRIPTORS = 16
/**
 * How many more MiB than after its first pulls a mirror may have: a runtime returns memory when it likes. Deno has some 100 then,
 * reaches some 215 within two minutes and stays there (SOAK_SECONDS=200, every 7 s), with a heap of 20 to 50 all the time.
 */
const MORE_MEMORY = 160

const chosen = process.env.E2E_RUNTIME as RuntimeName | undefined
const runtimes = chosen === undefined ? (Object.keys(RUNTIMES) as RuntimeName[]) : [chosen]
const random = createRandom(SEED)
const below = (bound: number) => Math.floor(random() * bound)
const pick = <T>(items: readonly T[]): T | undefined => items[below(items.length)]

const images: PullImage[] = Array.from({ length: IMAGES }, (_, index) => ({
  registry: 'soak.example',
  repository: `soak/image-${index}`,
  tag: 'v1',
  image: makeImage({ layers: LAYERS, layerSize: LAYER_SIZES[index % LAYER_SIZES.length] ?? 0, seed: index + 1 }),
}))
const nameOf = ({ registry, repository, tag }: PullImage) => `${registry}/${repository}:${tag}`

let directory: string
let nodes: LayoutNode[]

before(async () => {
  console.log(`soak: SOAK_SEED=${SEED} SOAK_SECONDS=${SECONDS}`)
  directory = await mkdtemp(join(tmpdir(), 'swarmirror-soak-'))
  const bootstrap = Array.from({ length: LASTING }, (_, index) => `${ownAddress(index)}:${PEER_PORT}`).join(',')
  const swarmKey = randomBytes(32).toString('hex')
  nodes = Array.from({ length: NODES }, (_, index) => {
    const network = ['--swarm-key', swarmKey, '--bootstrap', bootstrap, '--peer-transfer', TRANSFER]
    return new LayoutNode({
      name: `node ${index}`,
      host: ownAddress(index),
      runtime: runtimes[index % runtimes.length] ?? 'node',
      directory: join(directory, `node-${index}`),
      flags: [...network, '--lookup-timeout', '1s'],
    })
  })
  for (const { options } of nodes) await mkdir(options.directory)
  await Promise.all(nodes.map((node) => node.start()))
})

after(async () => {
  await Promise.all(nodes.map((node) => node.kill()))
  await rm(directory, { recursive: true, force: true })
})

/** What has happened. */
const counts = { pulls: 0, lost: 0, joined: 0, left: 0, killed: 0, paused: 0 }
const total: Sources = { local: 0, peer: 0, upstream: 0 }

async function pullOne(node: LayoutNode, pull: PullImage): Promise<Sources> {
  node.pulls += 1
  try {
    const pauses = random() < 0.5
    const sources = await pullThrough(node, pull, { pause: () => (pauses && random() < 0.2 ? below(40) : 0) })
    counts.pulls += 1
    for (const source of Object.keys(total) as (keyof Sources)[]) total[source] += sources[source]
    return sources
  } finally {
    node.pulls -= 1
  }
}

function hold(node: LayoutNode, pull: PullImage): Promise<void> {
  return node.hold(nameOf(pull), { image: pull.image, names: [nameOf(pull)] })
}

/** Pulls until nothing comes from upstream: announcements take a moment. */
async function untilFromPeers(node: LayoutNode, pull: PullImage): Promise<void> {
  await until(`${node.name} to get ${nameOf(pull)} from peers`, async () => (await pullOne(node, pull)).upstream === 0)
}

/** Lets a random node pull a random image and hold it in place of another. */
async function pullSomewhere(): Promise<void> {
  const node = pick(nodes.filter(({ state }) => state === 'up'))
  const pull = pick(images)
  if (node === undefined || pull === undefined) return
  try {
    await pullOne(node, pull)
    if (node.state !== 'up') return
    await hold(node, pull)
    const [oldest] = node.holds.keys()
    if (node.holds.size > CAPACITY && oldest !== undefined) await node.drop(oldest)
  } catch (error) {
    if (!(error instanceof NodeLost)) throw error
    counts.lost += 1
  }
}

/** Lets a random event happen to a random node. Nobody pulls at a paused node: its own containerd would also wait. */
async function happen(): Promise<void> {
  const mortal = nodes.slice(LASTING)
  const down = pick(mortal.filter(({ state }) => state === 'down'))
  const up = pick(mortal.filter(({ state }) => state === 'up'))
  const idle = pick(nodes.filter(({ state, pulls }) => state === 'up' && pulls === 0))
  const dice = random()
  if (dice < 0.4 && down !== undefined) {
    counts.joined += 1
    await down.start()
  } else if (dice < 0.6 && up !== undefined) {
    counts.killed += 1
    await up.kill()
  } else if (dice < 0.75 && up !== undefined) {
    counts.left += 1
    await up.stop()
  } else if (idle !== undefined && nodes.every(({ state }) => state !== 'paused')) {
    counts.paused += 1
    idle.pause()
    await delay(below(PAUSE))
    idle.resume()
  }
}

test('soak: no wrong byte, no hang, no leak while nodes join, leave, die, pause and pull', async () => {
  const lasting = nodes.slice(0, LASTING)
  const first = lasting.map((node) => node.usage())
  for (const [index, pull] of images.entries()) await hold(lasting[index % LASTING] ?? assert.fail('no node'), pull)
  // The first pulls warm the mirrors up: they may keep the memory that they need then.
  for (const node of lasting) for (const pull of images) await untilFromPeers(node, pull)
  const warm = lasting.map((node) => node.usage())

  const end = performance.now() + SECONDS * 1000
  const over = new AbortController()
  const loop = async (work: () => Promise<void>, interval: number) => {
    try {
      while (performance.now() < end && !over.signal.aborted) {
        await work()
        for (const node of nodes) node.assertAlive()
        await delay(below(interval))
      }
    } catch (error) {
      over.abort()
      throw error
    }
  }
  const pullers = Array.from({ length: PULLERS }, () => loop(pullSomewhere, 50))
  const results = await Promise.allSettled([...pullers, loop(happen, EVENT_INTERVAL), loop(happen, EVENT_INTERVAL)])
  for (const node of nodes) if (node.state === 'paused') node.resume()
  console.log(`soak: ${JSON.stringify({ ...counts, megabytes: megabytes(total) })}`)
  for (const result of results) if (result.status === 'rejected') throw result.reason
  assert.ok(total.peer > total.upstream, `more from upstream than from peers: ${JSON.stringify(total)}`)

  // The swarm is whole again: every node gets from its peers alone what any other holds.
  await Promise.all(nodes.filter(({ state }) => state === 'down').map((node) => node.start()))
  for (const node of nodes) {
    const held = images.find((pull) => nodes.some((other) => other !== node && other.holds.has(nameOf(pull))))
    assert.ok(held)
    await until(
      `${node.name} to get ${nameOf(held)} from peers`,
      async () => (await pullOne(node, held)).upstream === 0,
    )
  }

  const settled = async () =>
    lasting.every((node, index) => node.usage().descriptors <= (first[index]?.descriptors ?? 0) + MORE_DESCRIPTORS)
  try {
    await until('the number of descriptors to return to that of the beginning', settled, { timeoutMs: SETTLE_BOUND })
  } finally {
    const last = lasting.map((node) => node.usage())
    const shown = (usages: typeof last, index: number) => [
      String(usages[index]?.descriptors),
      usages[index]?.memory.toFixed(0) ?? '',
    ]
    printTable(
      ['mirror', 'descriptors at first', 'MiB', 'after the first pulls', 'MiB', 'in the end', 'MiB'],
      lasting.map(({ name }, index) => [name, ...[first, warm, last].flatMap((usages) => shown(usages, index))]),
    )
  }
  for (const [index, node] of lasting.entries()) {
    const growth = node.usage().memory - (warm[index]?.memory ?? 0)
    assert.ok(growth < MORE_MEMORY, `${node.name} has grown by ${growth.toFixed(0)} MiB`)
  }
})

function megabytes(sources: Sources): Record<string, number> {
  return Object.fromEntries(Object.entries(sources).map(([name, bytes]) => [name, Math.round(bytes / 1e6)]))
}
