/**
 * A soak of rollouts: five nodes on all three runtimes pull a new image at about the same time, and at a random moment one of them,
 * or the registry, fails. No wrong byte, no hang, no growth.
 *
 * SOAK_ROLLOUTS sets how many rollouts there are (6 by default). SOAK_SEED decides what happens, though not to the microsecond; the
 * default is fixed. With an even seed the nodes speak without TLS.
 */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { after, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { residentMebibytes } from '../bench/figures.ts'
import { type Node, testCluster, until } from '../e2e/harness/index.ts'
import { createRandom } from '../unit/udx/support/random.ts'
import { assertWhole, imagesDuring, removeEverywhere, shapeLinks, shown, timedPull } from './support/rollout.ts'

const ROLLOUTS = Number(process.env.SOAK_ROLLOUTS ?? 6)
const SEED = Number(process.env.SOAK_SEED ?? 1)
const MB = 1_000_000
/** Bytes of an image, in one to four layers: without mirrors, all five together take 12 s for it. */
const IMAGE = 30 * MB
/** The longest delay of a node after the first one, and of a fault, in milliseconds. */
const SPREAD = 1_500
/** The longest time for a pull, in milliseconds. */
const BOUND = 90_000
/** How many more descriptors and MiB than after its first pull a mirror may have in the end, if it runs all the time. */
const MORE_DESCRIPTORS = 24
const MORE_MEMORY = 160

const random = createRandom(SEED)
const below = (bound: number) => Math.floor(random() * bound)
const pick = <T>(items: readonly T[]): T => items[below(items.length)] ?? assert.fail('nothing to pick')

const transfer = SEED % 2 === 0 ? 'plain' : 'tls'
const flags = { flight: 'on', 'lookup-timeout': undefined, 'log-level': 'info', 'peer-transfer': transfer }
const cluster = await testCluster({
  nodes: (['node', 'deno', 'bun', 'node', 'bun'] as const).map((runtime, at) => ({
    name: 'abcde'[at] ?? '',
    runtime,
    flags,
  })),
  registry: true,
})
const { registry, nodes } = cluster
/** Nodes whose mirrors may be paused, but never end. */
const lasting = nodes.slice(0, 3)
const mortal = nodes.slice(3)
await shapeLinks(cluster)
const report: string[] = []
after(() => console.log(`\nSOAK_SEED=${SEED} SOAK_ROLLOUTS=${ROLLOUTS}\n${report.join('\n')}\n`))

interface Fault {
  readonly what: string
  /** The node whose pull may fail; all others must succeed. */
  readonly spared?: Node
  readonly happens: (stop: AbortController) => Promise<unknown> | unknown
  readonly heals?: () => Promise<unknown>
}

/** Something that goes wrong, at some node. */
function someFault(): Fault {
  const any = pick(nodes)
  const one = pick(mortal)
  return pick<Fault>([
    { what: 'nothing', happens: () => undefined },
    {
      what: `the pull of ${any.name} is cancelled`,
      spared: any,
      happens: (stop) => stop.abort(new Error('cancelled')),
    },
    {
      what: `the containerd of ${any.name} is killed`,
      spared: any,
      happens: () => any.containerd.kill(),
      heals: () => any.containerd.start(),
    },
    { what: `the mirror of ${one.name} is killed`, happens: () => one.mirror.kill(), heals: () => one.mirror.start() },
    { what: `the mirror of ${one.name} is stopped`, happens: () => one.mirror.stop(), heals: () => one.mirror.start() },
    {
      what: `the mirror of ${any.name} hangs`,
      spared: any,
      happens: () => any.mirror.pause(),
      heals: () => any.mirror.resume(),
    },
    {
      what: `${any.name} is cut off`,
      spared: any,
      happens: () => any.network.cutOff(),
      heals: () => any.network.heal(),
    },
    { what: `${any.name} loses a tenth`, happens: () => any.network.loseIncoming(10), heals: () => any.network.heal() },
  ])
}

const usage = ({ mirror: { pid } }: Node) => ({
  descriptors: readdirSync(`/proc/${pid}/fd`).length,
  memory: residentMebibytes(pid),
})

test('flight soak: no wrong byte, no hang, no growth while nodes fail in rollouts', async () => {
  let first: ReturnType<typeof usage>[] = []
  for (let rollout = 0; rollout < ROLLOUTS; rollout++) {
    const count = 1 + below(4)
    const image = await registry.push(
      await cluster.makeImage({
        seed: `soak ${SEED} ${rollout}`,
        layers: Array.from({ length: count }, () => Math.floor(IMAGE / count)),
      }),
      `team/soak-${rollout}:v1`,
    )
    const fault = rollout === 0 ? { what: 'nothing', happens: () => undefined } : someFault()
    const late = nodes.map(() => below(SPREAD))
    const [pulls, images] = await imagesDuring(cluster, image, async () => {
      const stop = new AbortController()
      const pulling = nodes.map(async (node, at) => {
        await delay(late[at] ?? 0)
        const { signal } = node === fault.spared ? stop : new AbortController()
        return await timedPull(node, image, { signal, timeoutMs: BOUND })
      })
      await delay(below(2 * SPREAD))
      await fault.happens(stop)
      const others = await Promise.all(pulling.filter((_, at) => nodes[at] !== fault.spared))
      await fault.heals?.()
      await Promise.all(pulling)
      return others
    })
    report.push(`${count} layers, ${fault.what}: ${images.toFixed(2)} images; ${shown(pulls)}`)
    await assertWhole(cluster, image, pulls)
    if (fault.spared !== undefined) {
      const { spared } = fault
      await until(`${spared.name} to have it too`, async () => {
        const { error } = await timedPull(spared, image, { timeoutMs: BOUND })
        return error === undefined
      })
      assert.deepEqual(await spared.wrongFiles(image.reference, image), [])
    }
    await removeEverywhere(cluster, image)
    if (rollout === 0) first = lasting.map(usage)
  }
  const grown = (node: Node, at: number) => usage(node).descriptors - (first[at]?.descriptors ?? 0)
  await until('the number of descriptors to return to that of the beginning', () =>
    lasting.every((node, at) => grown(node, at) <= MORE_DESCRIPTORS),
  )
  for (const [at, node] of lasting.entries()) {
    const memory = usage(node).memory - (first[at]?.memory ?? 0)
    report.push(`the mirror of ${node.name}: ${grown(node, at)} descriptors and ${memory.toFixed(0)} MiB more`)
    assert.ok(memory < MORE_MEMORY, `${node.name} has grown by ${memory.toFixed(0)} MiB`)
  }
})
