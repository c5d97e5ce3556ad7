/**
 * Pulls of 200 MB by a real containerd while something happens at the serving node that its mirror has to deal with. The serving
 * mirror runs on each of the three runtimes, the asker's mirror on the one that E2E_RUNTIME names.
 */
import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { defaultRuntime, type NodeOptions, type PushedImage, testCluster } from '../e2e/harness/index.ts'
import { flipByte, takeAway } from './support/blobs.ts'
import { untilCollected } from './support/experiment.ts'
import { occupy } from './support/occupy.ts'
import { Report } from './support/report.ts'
import { assertFromPeers, assertUpstreamUnasked, LAYERS, Scene } from './support/scene.ts'

const MB = 1_000_000
/** Where the largest layer gets a wrong byte: nobody has read it yet when the fault happens. */
const WRONG_PLACE = 150 * MB

const RUNTIMES = ['node', 'deno', 'bun'] as const
/** Two for each runtime, whose mirrors run only for that runtime's tests. */
const holders: readonly NodeOptions[] = RUNTIMES.flatMap((runtime) =>
  [1, 2].map((number) => ({ name: `${runtime}${number}`, runtime, start: ['containerd'] as const })),
)
const cluster = await testCluster({ nodes: ['asker', ...holders], registry: true })
const asker = cluster.node('asker')
const report = new Report()
let image: PushedImage

before(async () => {
  const made = await cluster.makeImage({ seed: 'holders', layers: LAYERS })
  image = await cluster.registry.push(made, 'team/holders:v1')
  for (const { name } of holders) await cluster.node(name).pull(image.reference)
})

after(() =>
  report.print(`A pull of 200 MB on ${defaultRuntime()} while something happens at the serving node, by its runtime`),
)

for (const runtime of RUNTIMES) {
  suite(`holders on ${runtime}`, () => {
    const pair = [cluster.node(`${runtime}1`), cluster.node(`${runtime}2`)]
    const [door = assert.fail('no holder')] = pair
    let scene: Scene

    before(async () => {
      await Promise.all(pair.map(({ mirror }) => mirror.start()))
      scene = new Scene(cluster, { image, holders: pair, asker, report, runtime })
    })

    after(async () => {
      assert.deepEqual(await Promise.all(pair.map(({ mirror }) => mirror.stop())), [0, 0])
    })

    test(`holders on ${runtime}: undisturbed`, () => scene.undisturbed())

    test(`holders on ${runtime}: a holder that is full of requests sends the asker to the other`, async () => {
      const from = cluster.registry.network
      const occupied = await occupy(cluster, { door, from, image, digest: scene.largest })
      try {
        assertFromPeers(await scene.pull({ what: 'one is full of requests' }))
        assert.ok(occupied.refused > 0, `expected a bound, but all of ${occupied.held} requests were taken`)
      } finally {
        await occupied.end()
      }
    })

    test(`holders on ${runtime}: a wrong byte on disk never becomes content, and the next try succeeds`, async () => {
      const fault = async () => {
        const corrupted = await scene.serving()
        await flipByte(corrupted, scene.largest, WRONG_PLACE)
        scene.repairLater(async () => {
          await flipByte(corrupted, scene.largest, WRONG_PLACE)
          // Otherwise the asker would not ask this holder for the layer for ten minutes.
          await asker.mirror.restart()
        })
      }
      const retry = () => untilCollected(asker, image)
      // When the mirror finds the wrong byte, containerd already has everything before it, so the first try may fail.
      assertUpstreamUnasked(await scene.pull({ what: 'a byte on its disk changes', ...scene.middle(), fault, retry }))
    })

    test(`holders on ${runtime}: a blob is removed under the serving mirror`, async () => {
      const fault = async () => scene.repairLater(await takeAway(await scene.serving(), scene.largest))
      assertFromPeers(await scene.pull({ what: 'the blob is removed there', ...scene.middle(), fault }))
    })

    test(`holders on ${runtime}: a blob is announced but no longer there`, async () => {
      const prepare = async () => scene.repairLater(await takeAway(door, scene.largest))
      assertFromPeers(await scene.pull({ what: 'the blob was removed there before' }, prepare))
    })

    test(`holders on ${runtime}: containerd is restarted under the serving mirror`, async () => {
      const fault = async () => (await scene.serving()).containerd.restart()
      assertFromPeers(await scene.pull({ what: 'its containerd restarts', ...scene.middle(), fault }))
    })

    test(`holders on ${runtime}: the serving mirror finishes its transfers when told to stop`, async () => {
      const fault = async () => {
        const { mirror } = await scene.serving()
        assert.equal(await mirror.stop(), 0)
      }
      const outcome = await scene.pull({ what: 'its mirror is told to stop (SIGTERM)', ...scene.middle(), fault })
      assertFromPeers(outcome)
      assert.equal(outcome.resumes, 0)
    })
  })
}
