/** Pulls during which all peers vanish, so that only upstream is left, or nothing. On all three runtimes. */
import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { type NodeOptions, type PushedImage, testCluster, until } from '../e2e/harness/index.ts'
import { within } from '../fixtures/wait.ts'
import {
  countsOf,
  forget,
  type Outcome,
  PULL_BOUND,
  pullUnder,
  sizeOf,
  untilCollected,
  untilHeldBy,
} from './support/experiment.ts'
import { Report } from './support/report.ts'

const MB = 1_000_000
/** One layer, so that the bytes from upstream can be counted exactly. */
const LAYER = 60 * MB
/** What each holder, and upstream, may send, in bytes per second. */
const RATE = 20 * MB
const MIDDLE = 10 * MB
/** How long a pull that nobody can serve may take to fail, in milliseconds: containerd asks three more times. */
const FAILURE_BOUND = 30_000

const askers: readonly NodeOptions[] = (['node', 'deno', 'bun'] as const).map((runtime) => ({ name: runtime, runtime }))
const cluster = await testCluster({ nodes: ['a', 'b', ...askers], registry: true })
const { registry } = cluster
const holders = [cluster.node('a'), cluster.node('b')]
const report = new Report()
let image: PushedImage

before(async () => {
  image = await registry.push(await cluster.makeImage({ seed: 'alone', layers: [LAYER] }), 'team/alone:v1')
  for (const holder of holders) await holder.pull(image.reference)
  for (const { network } of [...holders, registry]) await network.shape('out', RATE)
})

/** Every test begins with holders that serve and askers that have nothing, however the one before ended. */
afterEach(async () => {
  await startHolders()
  for (const { name } of askers) await forget(cluster.node(name), image)
})
after(() => report.print('A pull of 60 MB on each runtime, whose peers all vanish'))

const killHolders = () => Promise.all(holders.map(({ mirror }) => mirror.kill()))

async function startHolders(): Promise<void> {
  await Promise.all(holders.map(({ mirror }) => (mirror.running ? undefined : mirror.start())))
}

for (const { name } of askers) {
  const asker = cluster.node(name)
  const [layer, when] = [
    () => image.own.layers[0] ?? assert.fail('no layer'),
    () => ({ digest: layer().digest, bytes: MIDDLE }),
  ]

  let undisturbed: Outcome | undefined

  test(`alone on ${name}: the pull continues upstream at the offset`, async () => {
    await untilHeldBy(cluster, image, { holders, askers: [asker] })
    undisturbed = await pullUnder(cluster, { what: 'nothing', asker, image })
    report.add(undisturbed)
    await forget(asker, image)
    const fault = async () => void (await killHolders())
    const outcome = await pullUnder(cluster, {
      what: 'all are killed, upstream is there',
      asker,
      image,
      when: when(),
      fault,
    })
    report.add(outcome, { undisturbed: undisturbed.ms })
    assert.deepEqual(await asker.wrongFiles(image.reference, image), [])
    // Manifest and configuration came from peers earlier.
    assert.deepEqual(
      outcome.upstream.map(({ method, status, target }) => ({
        method,
        status,
        layer: target.includes(layer().digest),
      })),
      [{ method: 'GET', status: 206, layer: true }],
    )
    const bytes = outcome.upstream[0]?.bytes ?? 0
    assert.ok(bytes <= LAYER - MIDDLE + MB, `${bytes} bytes from upstream`)
  })

  test(`alone on ${name}: without upstream the pull fails in time, and the next one succeeds once a peer is back`, async () => {
    await untilHeldBy(cluster, image, { holders, askers: [asker] })
    const [before, counted] = [await asker.network.carried(), await countsOf(asker)]
    await registry.whileDown(async () => {
      await asker.untilResolved(image)
      const start = performance.now()
      const pulled = asker.pull(image.reference, { timeoutMs: PULL_BOUND })
      pulled.catch(() => undefined)
      await until('the middle', async () => (await asker.ingested(layer().digest)) > MIDDLE)
      await killHolders()
      const failed = assert.rejects(pulled, (error: Error) => !/deadline/i.test(error.message))
      await within('the pull to fail', failed, FAILURE_BOUND)
      const failedAfter = performance.now() - start
      await startHolders()
      await untilCollected(asker, image)
      await asker.untilOffered(image)
      await asker.untilResolved(image)
      await asker.pull(image.reference)
      const outcome = {
        what: 'all are killed, upstream is down, then one is back',
        asker,
        ms: performance.now() - start,
        failedAfter,
        tries: 2,
        twice: (await asker.network.carried()).in - before.in - sizeOf(image),
        ...(await countsOf(asker, counted)),
        upstream: [],
        errors: [],
      }
      report.add(outcome, { undisturbed: undisturbed?.ms })
    })
    assert.deepEqual(await asker.wrongFiles(image.reference, image), [])
  })
}
