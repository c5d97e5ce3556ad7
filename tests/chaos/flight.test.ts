/** Flights of which a part fails: the others go on, and little more than one image leaves the registry. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { type Node, type PushedImage, testCluster, until } from '../e2e/harness/index.ts'

const MB = 1_000_000
/** One layer, so that who leads and who follows is one line: a, b, c, d, e. */
const LAYER = 80 * MB
/** What each node and the registry can send and receive, in bytes per second: 100 Mbit/s. */
const LINK = 12_500_000
/** How much of the layer the leader has when the fault happens. */
const MIDDLE = 30 * MB
/** Longest time for any of it, in milliseconds: one node alone takes 7 s. */
const BOUND = 90_000

const cluster = await testCluster({
  nodes: ['a', 'b', 'c', 'd', 'e'].map((name) => ({ name, flags: { flight: 'on', 'lookup-timeout': undefined } })),
  registry: true,
})
const { registry, nodes } = cluster
const node = (name: string) => cluster.node(name)
for (const { network } of [...nodes, registry]) {
  await network.shape('out', LINK)
  await network.shape('in', LINK)
}
const report: string[] = []
after(() => console.log(`\n${report.join('\n')}\n`))

interface Pulls {
  readonly image: PushedImage
  /** Ends the pull of a node. */
  cancel(name: string): void
}

interface Fault {
  readonly what: string
  readonly happens: (pulls: Pulls) => Promise<unknown> | unknown
  /** Makes it good again, when all pulls are over. */
  readonly heals?: () => Promise<unknown>
  /** Nodes whose pull may fail. */
  readonly mayFail?: readonly string[]
  /** How many images may leave the registry, where 5 do without flights: half of one more than is usual. */
  readonly images: number
}

const FAULTS: readonly Fault[] = [
  { what: 'nothing', happens: () => undefined, images: 1.6 },
  { what: 'the pull of the leader is cancelled', happens: ({ cancel }) => cancel('a'), mayFail: ['a'], images: 1.6 },
  {
    what: 'the containerd of the leader is killed',
    happens: () => node('a').containerd.kill(),
    heals: () => node('a').containerd.start(),
    mayFail: ['a'],
    images: 1.6,
  },
  {
    what: 'the mirror of the leader is killed',
    happens: () => node('a').mirror.kill(),
    heals: () => node('a').mirror.start(),
    images: 2.2,
  },
  {
    what: 'the leader is cut off',
    happens: () => node('a').network.cutOff(),
    heals: () => node('a').network.heal(),
    mayFail: ['a'],
    images: 1.6,
  },
  {
    what: 'the pull of one in the middle is cancelled',
    happens: ({ cancel }) => cancel('c'),
    mayFail: ['c'],
    images: 1.6,
  },
  {
    what: 'the mirror of one in the middle is killed',
    happens: () => node('c').mirror.kill(),
    heals: () => node('c').mirror.start(),
    images: 2.2,
  },
  {
    what: 'the mirror of one in the middle hangs',
    happens: () => node('c').mirror.pause(),
    heals: () => node('c').mirror.resume(),
    mayFail: ['c'],
    images: 2.2,
  },
]

for (const [index, { what, happens, heals, mayFail = [], images }] of FAULTS.entries()) {
  test(`flight: ${what}`, async () => {
    const image = await registry.push(
      await cluster.makeImage({ seed: `chaos flight ${index}`, layers: [LAYER] }),
      `team/chaos-flight-${index}:v1`,
    )
    const layer = image.own.layers[0]?.digest ?? assert.fail('no layer')
    const before = await registry.network.carried()
    const stops = new Map(nodes.map(({ name }) => [name, new AbortController()]))
    const pulls: Promise<{ name: string; seconds: number; error: unknown }>[] = []
    const pull = async (puller: Node) => {
      const start = performance.now()
      const { signal } = stops.get(puller.name) ?? assert.fail()
      const error = await puller.pull(image.reference, { signal, timeoutMs: BOUND }).then(
        () => undefined,
        (reason: unknown) => reason,
      )
      return { name: puller.name, seconds: (performance.now() - start) / 1000, error }
    }
    for (const puller of nodes) {
      pulls.push(pull(puller))
      await until(`${puller.name} to have begun`, async () => (await puller.ingested(layer)) > 0)
    }
    await until('the middle', async () => {
      const ingested = await node('a').ingested(layer)
      assert.ok(ingested > 0, 'the leader has all before the others have begun: the machine is too busy')
      return ingested >= MIDDLE
    })
    await happens({ image, cancel: (name) => stops.get(name)?.abort(new Error('cancelled')) })
    const needed = pulls.filter((_, at) => !mayFail.includes(nodes[at]?.name ?? ''))
    const done = await Promise.all(needed)
    const after = await registry.network.carried()
    await heals?.()
    await Promise.all(pulls)
    const left = (after.out - before.out) / LAYER
    report.push(
      `${what}: ${left.toFixed(2)} images; ${done.map(({ name, seconds, error }) => `${name} ${seconds.toFixed(1)} s${error ? ' failed' : ''}`).join(', ')}`,
    )
    assert.deepEqual(
      done.filter(({ error }) => error !== undefined).map(({ name, error }) => `${name}: ${error}`),
      [],
    )
    for (const { name } of done) assert.deepEqual(await node(name).wrongFiles(image.reference, image), [])
    assert.ok(left <= images, `${left.toFixed(2)} images left the registry`)
    for (const { name } of nodes)
      await node(name)
        .removeImage(image.reference)
        .catch(() => undefined)
  })
}
