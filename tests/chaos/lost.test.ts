/**
 * Pulls that begin just after one of two holders was lost, before anybody knows it. This costs at most one hedging delay, not one
 * for each of the image's many blobs. On all three runtimes.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { type Node, type NodeOptions, testCluster } from '../e2e/harness/index.ts'
import { LONGEST_PACKET } from './support/experiment.ts'
import { Report } from './support/report.ts'
import { assertFromPeers, Scene } from './support/scene.ts'

/** Many blobs: the asker would ask each holder for about half of them. */
const LAYERS: readonly number[] = Array.from({ length: 48 }, () => 100_000)
/**
 * The most requests of a pull that may wait for a hedging delay. Half of some 52 would wait if each had to find out by itself. One
 * for each that containerd sends at the same time (3) is enough to learn, and one in twenty is hedged in any case.
 */
const MOST_HEDGES = 16
/** How often to try: a busy machine sometimes hedges more, a mirror that does not learn always does. */
const TRIES = 3

const askers: readonly NodeOptions[] = (['node', 'deno', 'bun'] as const).map((runtime) => ({ name: runtime, runtime }))
const cluster = await testCluster({ nodes: ['a', 'b', ...askers], registry: true })
const holders = [cluster.node('a'), cluster.node('b')]
const [lost = assert.fail('no holder')] = holders
const report = new Report()
let scene: Scene

before(async () => {
  const image = await cluster.registry.push(await cluster.makeImage({ seed: 'lost', layers: LAYERS }), 'team/lost:v1')
  for (const holder of holders) await holder.pull(image.reference)
  scene = new Scene(cluster, { image, holders, asker: cluster.node('node'), report })
})

after(() => report.print('A pull of 48 layers of 0.1 MB on each runtime, just after one of two holders was lost'))

const losses: Readonly<Record<string, (node: Node) => Promise<void>>> = {
  'its mirror was killed (kill -9)': ({ mirror }) => mirror.kill(),
  'its mirror hangs (SIGSTOP)': ({ mirror }) => mirror.pause(),
  'it was cut off (all packets dropped)': ({ network }) => network.cutOff(),
  'its large packets are lost (beyond 1300 bytes)': ({ network }) => network.loseLarge(LONGEST_PACKET),
}

for (const { name } of askers) {
  const asker = cluster.node(name)
  test(`lost on ${name}: undisturbed`, () => scene.undisturbed(asker))

  for (const [what, lose] of Object.entries(losses)) {
    test(`lost on ${name}: one of two holders just before the pull: ${what}`, async () => {
      const hedges: number[] = []
      while (hedges.length < TRIES && (hedges.at(-1) ?? MOST_HEDGES + 1) > MOST_HEDGES) {
        const outcome = await scene.pull({ what, asker }, () => lose(lost))
        assertFromPeers(outcome)
        hedges.push(outcome.hedges)
      }
      assert.ok((hedges.at(-1) ?? 0) <= MOST_HEDGES, `${hedges.join(', ')} hedges`)
    })
  }
}
