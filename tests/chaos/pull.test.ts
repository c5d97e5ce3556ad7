/**
 * Pulls of 200 MB by a real containerd while something happens to the node that serves. What the asker's runtime decides
 * (its sockets and timers) is seen on all three runtimes; the rest on the one that E2E_RUNTIME names.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { defaultRuntime, type Node, type NodeOptions, type PushedImage, testCluster } from '../e2e/harness/index.ts'
import { flipByte, takeAway } from './support/blobs.ts'
import {
  busiest,
  type Experiment,
  forget,
  type Outcome,
  pullUnder,
  untilCollected,
  untilHeldBy,
} from './support/experiment.ts'
import { occupy } from './support/occupy.ts'
import { Report } from './support/report.ts'

const MB = 1_000_000
/** Nearly all is in one layer: whoever sends in the middle of the pull sends that one. */
const LAYERS = [190 * MB, 5 * MB, 5 * MB]
/** What each holder may send, in bytes per second: a pull takes some seconds. */
const RATE = 50 * MB
/** How much of the largest layer has come when the fault happens. */
const MIDDLE = 30 * MB
/** Where the largest layer gets a wrong byte: not yet read when the fault happens. */
const WRONG_PLACE = 150 * MB
/** A holder that is slow, in bytes per second: what is left of the pull would take minutes. */
const SLOW = MB / 2
/**
 * Most bytes that may come twice. What was under way in the kernel's buffers when a connection was given up is lost; a quarter
 * of the image is far more than that, and far less than one layer that begins anew.
 */
const TWICE = 50 * MB

const askers: readonly NodeOptions[] = [
  { name: 'node', runtime: 'node' },
  { name: 'deno', runtime: 'deno' },
  { name: 'bun', runtime: 'bun' },
]
const cluster = await testCluster({ nodes: ['a', 'b', ...askers], registry: true })
const holders = [cluster.node('a'), cluster.node('b')]
const everyRuntime = askers.map(({ name }) => cluster.node(name))
const asker = cluster.node(defaultRuntime())
const report = new Report()
const undisturbed = new Map<Node, number>()
let image: PushedImage

before(async () => {
  image = await cluster.registry.push(await cluster.makeImage({ seed: 'chaos', layers: LAYERS }), 'team/chaos:v1')
  for (const holder of holders) await holder.pull(image.reference)
  for (const { network } of holders) await network.shape('out', RATE)
})

after(() => report.print('A pull of 200 MB while something happens to the node that serves'))

/** What else makes a holder whole again. */
const repairs: (() => Promise<void>)[] = []

/** Makes both holders whole again, whatever happened to them. */
async function heal(): Promise<void> {
  for (const repair of repairs.splice(0)) await repair()
  for (const holder of holders) {
    await holder.network.heal()
    await holder.network.shape('out', RATE)
    if (holder.mirror.running) await holder.mirror.resume()
    else await holder.mirror.start()
    if (!holder.containerd.running) await holder.containerd.start()
  }
}

const serving = () => busiest(holders)
const largest = () => image.own.layers[0]?.digest ?? assert.fail('no layer')

/** Runs an experiment on a pull that both holders could serve; checks the content; makes everything as it was. */
async function under(
  experiment: Pick<Experiment, 'what'> & Partial<Experiment>,
  prepare: () => Promise<void> = async () => undefined,
): Promise<Outcome> {
  const by = experiment.asker ?? asker
  await untilHeldBy(cluster, image, { holders, askers: [by] })
  await prepare()
  try {
    const outcome = await pullUnder(cluster, { image, asker: by, ...experiment })
    report.add(outcome, undisturbed.get(by))
    assert.deepEqual(await by.wrongFiles(image.reference, image), [])
    return outcome
  } finally {
    await heal()
    await forget(by, image)
  }
}

/** In the middle of the pull. */
const middle = () => ({ digest: largest(), bytes: MIDDLE })

/** What must be true wherever another peer has the content. */
function assertUpstreamUnasked({ what, upstream }: Outcome): void {
  assert.deepEqual(upstream, [], `${what}: upstream was asked`)
}

/** What must be true of a pull that did not fail in between. */
function assertFromPeers(outcome: Outcome): void {
  assertUpstreamUnasked(outcome)
  const { what, twice } = outcome
  assert.ok(twice < TWICE, `${what}: ${twice} bytes came twice`)
}

/** What must be true when the node that served is lost: its mirror went on elsewhere, and containerd did not notice. */
function assertWentOn(outcome: Outcome): void {
  assertFromPeers(outcome)
  assert.ok(outcome.resumes > 0, `${outcome.what}: expected the mirror to go on from another peer`)
}

for (const by of everyRuntime) {
  test(`pull on ${by.runtime}: undisturbed`, async () => {
    // The very first one fills the holders' page cache.
    if (undisturbed.size === 0) assertFromPeers(await under({ what: 'nothing, first of all', asker: by }))
    const outcome = await under({ what: 'nothing', asker: by })
    assertFromPeers(outcome)
    undisturbed.set(by, outcome.ms)
  })

  test(`pull on ${by.runtime}: the serving mirror is killed`, async () => {
    const fault = async () => (await serving()).mirror.kill()
    assertWentOn(await under({ what: 'kill -9', asker: by, when: middle(), fault }))
  })

  test(`pull on ${by.runtime}: the serving mirror falls silent`, async () => {
    const fault = async () => (await serving()).mirror.pause()
    assertWentOn(await under({ what: 'SIGSTOP', asker: by, when: middle(), fault }))
  })

  test(`pull on ${by.runtime}: the serving node is cut off`, async () => {
    const fault = async () => (await serving()).network.cutOff()
    assertWentOn(await under({ what: 'all packets dropped', asker: by, when: middle(), fault }))
  })

  test(`pull on ${by.runtime}: the serving node knows no connection any more`, async () => {
    const fault = async () => (await serving()).network.resetIncoming()
    assertWentOn(await under({ what: 'RST from the peer', asker: by, when: middle(), fault }))
  })

  test(`pull on ${by.runtime}: the serving node becomes slow, the other is fast`, async () => {
    const fault = async () => (await serving()).network.shape('out', SLOW)
    assertWentOn(await under({ what: `slow: ${SLOW / 1e6} MB/s`, asker: by, when: middle(), fault }))
  })
}

test('pull: a holder that is full of requests sends the asker to the other', async () => {
  const [door] = holders
  assert.ok(door)
  const occupied = await occupy(cluster, { door, from: cluster.registry.network, image, digest: largest() })
  try {
    assertFromPeers(await under({ what: `${occupied.held} requests fill one peer` }))
    assert.ok(occupied.refused > 0, `expected a bound, but all of ${occupied.held} requests were taken`)
  } finally {
    await occupied.end()
  }
})

test('pull: a wrong byte on the serving disk never becomes content, and the next try is right', async () => {
  const fault = async () => {
    const corrupted = await serving()
    await flipByte(corrupted, largest(), WRONG_PLACE)
    repairs.push(async () => {
      await flipByte(corrupted, largest(), WRONG_PLACE)
      // It would not ask the holder for this layer again for ten minutes.
      await asker.mirror.restart()
    })
  }
  const retry = () => untilCollected(asker, image)
  // What comes before the wrong byte is with containerd when the mirror learns of it: a first try that fails is right.
  assertUpstreamUnasked(await under({ what: 'wrong byte on disk', when: middle(), fault, retry }))
})

test('pull: a blob is removed under the serving mirror', async () => {
  const fault = async () => {
    repairs.push(await takeAway(await serving(), largest()))
  }
  assertFromPeers(await under({ what: 'blob removed in the middle', when: middle(), fault }))
})

test('pull: a blob is announced but no longer there', async () => {
  const [robbed] = holders
  assert.ok(robbed)
  const prepare = async () => {
    repairs.push(await takeAway(robbed, largest()))
  }
  assertFromPeers(await under({ what: 'blob removed before' }, prepare))
})

test('pull: containerd is restarted under the serving mirror', async () => {
  const fault = async () => (await serving()).containerd.restart()
  assertFromPeers(await under({ what: "the peer's containerd restarts", when: middle(), fault }))
})

test("pull: the asker's containerd is restarted, and the next pull is right", async () => {
  const fault = async () => asker.containerd.restart('kill')
  assertUpstreamUnasked(
    await under({ what: 'own containerd killed', when: middle(), fault, retry: async () => undefined }),
  )
})
