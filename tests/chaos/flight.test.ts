/** Flights in which one node fails: the others go on, and little more than one image leaves the registry. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { type Node, requestsFor, until } from '../e2e/harness/index.ts'
import {
  assertWhole,
  fiveNodes,
  imagesDuring,
  type Pulled,
  removeEverywhere,
  shown,
  timedPull,
  untilIngested,
} from './support/rollout.ts'

const MB = 1_000_000
/** One layer, so that the nodes form one line from the leader on: a, b, c, d, e. */
const LAYER = 80 * MB
/** How much of the layer the leader has when the fault happens. */
const MIDDLE = 40 * MB
/** The longest time for any step, in milliseconds: a single node takes 7 s. */
const BOUND = 90_000

const cluster = await fiveNodes()
const { registry, nodes } = cluster
const node = (name: string) => cluster.node(name)
const report: string[] = []
after(() => console.log(`\n${report.join('\n')}\n`))

interface Fault {
  readonly what: string
  readonly happens: (cancel: (name: string) => void) => Promise<unknown> | unknown
  /** Undoes the fault when all pulls are over. */
  readonly heals?: () => Promise<unknown>
  /** Nodes whose pull may fail. */
  readonly mayFail?: readonly string[]
  /** A node whose containerd loses its mirror: it gets the rest of the layer from the registry. */
  readonly alone?: string
}

/**
 * How many images may leave the registry, not counting what a node without its mirror gets. 1.00 to 1.06 are usual. The bytes by
 * which the leader is ahead of the others leave it twice: on a busy machine that is up to a quarter of the layer.
 */
const MOST = 1.4

const FAULTS: readonly Fault[] = [
  { what: 'nothing', happens: () => undefined },
  { what: 'the pull of the leader is cancelled', happens: (cancel) => cancel('a'), mayFail: ['a'] },
  {
    what: 'the containerd of the leader is killed',
    happens: () => node('a').containerd.kill(),
    heals: () => node('a').containerd.start(),
    mayFail: ['a'],
  },
  {
    what: 'the mirror of the leader is killed',
    happens: () => node('a').mirror.kill(),
    heals: () => node('a').mirror.start(),
    alone: 'b',
  },
  {
    what: 'the leader is cut off',
    happens: () => node('a').network.cutOff(),
    heals: () => node('a').network.heal(),
    mayFail: ['a'],
  },
  { what: 'the pull of one in the middle is cancelled', happens: (cancel) => cancel('c'), mayFail: ['c'] },
  {
    what: 'the mirror of one in the middle is killed',
    happens: () => node('c').mirror.kill(),
    heals: () => node('c').mirror.start(),
    alone: 'c',
  },
  {
    what: 'the mirror of one in the middle hangs',
    happens: () => node('c').mirror.pause(),
    heals: () => node('c').mirror.resume(),
    mayFail: ['c'],
  },
]

for (const [index, { what, happens, heals, mayFail = [], alone }] of FAULTS.entries()) {
  test(`flight: ${what}`, async () => {
    const image = await registry.push(
      await cluster.makeImage({ seed: `chaos flight ${index}`, layers: [LAYER] }),
      `team/chaos-flight-${index}:v1`,
    )
    const layer = image.own.layers[0]?.digest ?? assert.fail('no layer')
    const stops = new Map(nodes.map(({ name }) => [name, new AbortController()]))
    const pull = (puller: Node) =>
      timedPull(puller, image, { signal: stops.get(puller.name)?.signal ?? assert.fail(), timeoutMs: BOUND })
    const pulls: Promise<Pulled>[] = []
    /** The part of the layer that a node still lacks when it loses its mirror. */
    let rest = 0
    let done: Pulled[] = []
    let images = 0
    const requests = await registry.requestsDuring(async () => {
      const [all, left] = await imagesDuring(cluster, image, async () => {
        for (const puller of nodes) {
          pulls.push(pull(puller))
          await until(`${puller.name} to have begun`, async () => (await puller.ingested(layer)) > 0)
        }
        assert.ok((await node('a').ingested(layer)) > 0, 'the leader has the whole layer before the others begin')
        await untilIngested(node('a'), image, MIDDLE)
        if (alone !== undefined) rest = 1 - (await node(alone).ingested(layer)) / LAYER
        await happens((name) => stops.get(name)?.abort(new Error('cancelled')))
        return await Promise.all(pulls.filter((_, at) => !mayFail.includes(nodes[at]?.name ?? '')))
      })
      done = all
      images = left
      await heals?.()
      await Promise.all(pulls)
    })
    const bytes = requestsFor([layer], requests).map(({ client, status, bytes }) => {
      const by = nodes.find(({ address }) => client.startsWith(address))?.name
      return `${by} ${(bytes / MB).toFixed(0)} MB (${status})`
    })
    report.push(`${what}: ${images.toFixed(2)} images, ${bytes.join(', ')}; ${shown(done)}`)
    await assertWhole(cluster, image, done)
    assert.ok(
      images <= MOST + rest,
      `${images.toFixed(2)} images left the registry, ${rest.toFixed(2)} for the node without its mirror`,
    )
    await removeEverywhere(cluster, image)
  })
}
