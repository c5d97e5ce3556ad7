/**
 * Pulls of 200 MB by a real containerd while something happens to the serving node that the asker's runtime notices by its sockets
 * and timers. What depends on the serving node's runtime is in holders.test.ts.
 *
 * The faults of the network run on one runtime: lost.test.ts has them before a pull, and reset.test.ts in the middle of a body, on
 * all three.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { defaultRuntime, type Node, type NodeOptions, testCluster } from '../e2e/harness/index.ts'
import { LONGEST_PACKET, type Outcome } from './support/experiment.ts'
import { Report } from './support/report.ts'
import { assertUpstreamUnasked, assertWentOn, LAYERS, Scene } from './support/scene.ts'

/** A slow holder's rate, in bytes per second: the rest of the pull would take minutes. */
const SLOW = 500_000

const askers: readonly NodeOptions[] = [
  { name: 'node', runtime: 'node' },
  { name: 'deno', runtime: 'deno' },
  { name: 'bun', runtime: 'bun' },
]
const cluster = await testCluster({ nodes: ['a', 'b', ...askers], registry: true })
const holders = [cluster.node('a'), cluster.node('b')]
const asker = cluster.node(defaultRuntime())
const report = new Report()
let scene: Scene

before(async () => {
  const image = await cluster.registry.push(await cluster.makeImage({ seed: 'chaos', layers: LAYERS }), 'team/chaos:v1')
  for (const holder of holders) await holder.pull(image.reference)
  scene = new Scene(cluster, { image, holders, asker, report })
})

after(() => report.print('A pull of 200 MB on each runtime, while something happens to the serving node'))

/** Pulls, and lets something happen to the serving node in the middle. */
async function under(what: string, by: Node, fault: (serving: Node) => Promise<void>): Promise<Outcome> {
  return await scene.pull({ what, asker: by, ...scene.middle(), fault: async () => fault(await scene.serving()) })
}

for (const { name } of askers) {
  const by = cluster.node(name)
  test(`pull on ${name}: undisturbed`, () => scene.undisturbed(by))

  test(`pull on ${name}: the serving mirror is killed`, async () => {
    assertWentOn(await under('its mirror is killed (kill -9)', by, ({ mirror }) => mirror.kill()))
  })

  test(`pull on ${name}: the serving mirror falls silent`, async () => {
    assertWentOn(await under('its mirror hangs (SIGSTOP)', by, ({ mirror }) => mirror.pause()))
  })

  test(`pull on ${name}: the serving node becomes slow, the other is fast`, async () => {
    assertWentOn(await under(`it becomes slow (${SLOW / 1e6} MB/s)`, by, ({ network }) => network.shape('out', SLOW)))
  })
}

test('pull: the serving node is cut off', async () => {
  assertWentOn(await under('it is cut off (all packets dropped)', asker, ({ network }) => network.cutOff()))
})

test("pull: the serving node's large packets are lost, the small ones come", async () => {
  assertWentOn(
    await under('its large packets are lost (beyond 1300 bytes)', asker, ({ network }) =>
      network.loseLarge(LONGEST_PACKET),
    ),
  )
})

test('pull: the serving node knows no connection any more', async () => {
  assertWentOn(await under('it knows no connection any more (RST)', asker, ({ network }) => network.resetIncoming()))
})

test("pull: the asker's containerd is restarted, and the next pull succeeds", async () => {
  const fault = async () => asker.containerd.restart('kill')
  const retry = async () => undefined
  const outcome = await scene.pull({ what: 'the containerd that pulls is killed', ...scene.middle(), fault, retry })
  assertUpstreamUnasked(outcome)
  assert.equal(outcome.tries, 2)
})
