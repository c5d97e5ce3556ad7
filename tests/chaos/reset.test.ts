/**
 * No body from the registry door ends with RST, on any runtime: after RST containerd gives the pull up, after FIN it continues
 * elsewhere. Mirrors on all three runtimes each serve a real containerd from one holder, to which something happens; tcpdump
 * captures what their doors send.
 */
import assert from 'node:assert/strict'
import { truncate } from 'node:fs/promises'
import { afterEach, before, test } from 'node:test'
import {
  blobPath,
  logLines,
  type Node,
  type NodeOptions,
  type PushedImage,
  testCluster,
  until,
} from '../e2e/harness/index.ts'
import { within } from '../fixtures/wait.ts'
import { flipByte } from './support/blobs.ts'
import { Capture, type Flow } from './support/capture.ts'
import { forget, LONGEST_PACKET, PULL_BOUND, untilHeldBy } from './support/experiment.ts'

const MB = 1_000_000
const LAYER = 45 * MB
/** What the holder may send to the three askers, in bytes per second. */
const RATE = 15 * MB
/**
 * How many bytes of the layer have come when something happens. Not more: an asker on Deno, which opens a TLS connection for each
 * piece, gets the smallest share of the link, and the others must not be done by then.
 */
const MIDDLE = 1 * MB
/** Where the layer gets a wrong byte: nobody has read it yet. */
const WRONG_PLACE = 40 * MB
const DOOR = 5000
/** curl's exit code for a body that ended early with FIN. RST would be 56. */
const PARTIAL_FILE = 18
/** curl's exit code when its time is over. */
const TIMED_OUT = 28

const runtimes: readonly NodeOptions[] = (['node', 'deno', 'bun'] as const).map((runtime) => ({
  name: runtime,
  runtime,
}))
const cluster = await testCluster({ nodes: ['holder', ...runtimes], registry: true })
const holder = cluster.node('holder')
const askers = runtimes.map(({ name }) => cluster.node(name))
let image: PushedImage

const layer = () => image.own.layers[0]?.digest ?? assert.fail('no layer')
const forEachAsker = <T>(work: (asker: Node) => Promise<T>) => Promise.all(askers.map(work))

before(async () => {
  image = await cluster.registry.push(await cluster.makeImage({ seed: 'reset', layers: [LAYER] }), 'team/reset:v1')
  await holder.pull(image.reference)
})

/** Further steps that repair the holder. */
const repairs: (() => Promise<void>)[] = []

afterEach(async () => {
  for (const repair of repairs.splice(0)) await repair()
  await holder.network.heal()
  await holder.network.unshape('out')
  if (holder.mirror.running) await holder.mirror.resume()
  else await holder.mirror.start()
  await forEachAsker(async ({ mirror }) => (mirror.running ? undefined : mirror.start()))
  await forEachAsker((asker) => forget(asker, image))
})

/** Captures what the doors send while `work` runs. */
async function captured(work: () => Promise<void>): Promise<Flow[][]> {
  const captures = await forEachAsker(({ network }) => Capture.start(network, DOOR))
  try {
    await work()
  } catch (error) {
    for (const capture of captures) await capture.stop()
    throw error
  }
  return await Promise.all(captures.map((capture) => capture.stop()))
}

/**
 * Checks that each door has ended a connection with FIN, and none with RST after the first byte of an answer. (If the kernel has
 * accepted a connection for a mirror that dies before it sees the request, RST ends it: containerd then asks the next host.)
 *
 * @param isBroken whether a body for that asker must have ended early
 */
function assertEndedByFin(flows: readonly Flow[][], isBroken: (asker: Node) => boolean = () => true): void {
  for (const [index, ends] of flows.map((flows) => flows.filter(({ sent }) => sent > 0)).entries()) {
    const asker = askers[index] ?? assert.fail('no asker')
    const { runtime } = asker
    assert.ok(!isBroken(asker) || ends.some(({ end }) => end === 'FIN'), `${runtime}: expected an end with FIN`)
    assert.deepEqual(
      ends.filter(({ end }) => end === 'RST'),
      [],
      `${runtime}: ended with RST`,
    )
  }
}

/** How many transfers of the layer from other nodes the asker's mirror has completed since its start. */
function completed({ mirror }: Node): number {
  return logLines(mirror).filter(
    ({ event, outcome, key, bytes }) =>
      event === 'transfer' && outcome === 'complete' && key === layer() && bytes !== 0,
  ).length
}

/** Lets all askers pull from the holder, runs `fault` in the middle, and checks how the bodies ended. */
async function endEarly(fault: () => Promise<unknown>, { fails = false } = {}): Promise<void> {
  await untilHeldBy(cluster, image, { holders: [holder], askers })
  await holder.network.shape('out', RATE)
  const before = new Map(askers.map((asker) => [asker, completed(asker)]))
  let flows: Flow[][] = []
  const asked = await cluster.registry.requestsDuring(async () => {
    flows = await captured(async () => {
      const pulls = askers.map((asker) => asker.pull(image.reference, { timeoutMs: PULL_BOUND }))
      const ended = Promise.allSettled(pulls)
      await forEachAsker((asker) =>
        until(`${asker.name} to be in the middle`, async () => (await asker.ingested(layer())) > MIDDLE),
      )
      await fault()
      const results = await within('the pulls to end', ended, PULL_BOUND)
      const failures = results.map((result) => (result.status === 'rejected' ? String(result.reason) : undefined))
      if (!fails)
        assert.deepEqual(
          failures,
          askers.map(() => undefined),
        )
    })
  })
  // Each containerd has continued where the body ended, or its mirror has continued from another asker that had everything by then.
  const upstream = asked.filter(({ target, status }) => target.includes(layer()) && status === 206)
  assertEndedByFin(flows, ({ address }) => upstream.some(({ client }) => client === address))
  const wentOn = askers.filter(
    (asker) => upstream.some(({ client }) => client === asker.address) || completed(asker) > (before.get(asker) ?? 0),
  )
  assert.deepEqual(
    wentOn.map(({ name }) => name),
    askers.map(({ name }) => name),
  )
  assert.ok(upstream.length > 0, 'expected somebody to continue upstream')
  if (!fails) await forEachAsker(async (asker) => assert.deepEqual(await asker.wrongFiles(image.reference, image), []))
}

test('capture: distinguishes an end with RST from an end with FIN', async () => {
  const [{ network } = assert.fail('no asker')] = askers
  const script = `
    const server = require('net').createServer((socket) => socket.on('data', (data) =>
      String(data).includes('/reset') ? socket.resetAndDestroy() : socket.end('HTTP/1.0 200 OK\\r\\n\\r\\n')))
    server.listen(5555, '127.0.0.1', async () => {
      for (const path of ['/fin', '/reset']) await fetch('http://127.0.0.1:5555' + path).then((r) => r.text()).catch(() => {})
      server.close()
      process.exit()
    })`
  const capture = await Capture.start(network, 5555)
  await network.exec(process.execPath, ['-e', script])
  const flows = await capture.stop()
  assert.deepEqual(
    flows.map(({ end, sent }) => ({ end, sent })),
    [
      { end: 'FIN', sent: 19 },
      { end: 'RST', sent: 0 },
    ],
  )
})

test('reset: the peer is killed', () => endEarly(() => holder.mirror.kill()))

test('reset: the peer falls silent', () => endEarly(() => holder.mirror.pause()))

test('reset: the peer is cut off', () => endEarly(() => holder.network.cutOff()))

test("reset: the peer's large packets are lost", () => endEarly(() => holder.network.loseLarge(LONGEST_PACKET)))

test('reset: the peer itself ends with RST', () => endEarly(() => holder.network.resetIncoming()))

test('reset: the peer sends a wrong byte', async () => {
  const fault = async () => {
    repairs.push(async () => {
      await flipByte(holder, layer(), WRONG_PLACE)
      // Otherwise they would not ask the holder for this layer for ten minutes.
      await forEachAsker(({ mirror }) => mirror.restart())
    })
    await flipByte(holder, layer(), WRONG_PLACE)
  }
  await endEarly(fault, { fails: true })
})

test('reset: the serving mirror is killed in mid-body', () =>
  endEarly(() => forEachAsker(({ mirror }) => mirror.kill())))

test('reset: the serving mirror is stopped and has no time to finish the body', async () => {
  await untilHeldBy(cluster, image, { holders: [holder], askers })
  const flows = await captured(async () => {
    const codes = await forEachAsker(async (asker) => {
      // A slow client, for which a stopping mirror does not wait long enough (20 s). A mirror would give up a slow peer earlier.
      const transfer = asker.startCurl(blobPath(image, layer()), { bytesPerSecond: MB, maxSeconds: 60 })
      await until('the body to have begun', async () => (await transfer.received()) > 0)
      assert.equal(await asker.mirror.stop(), 0)
      return (await transfer.result).exitCode
    })
    assert.deepEqual(codes, [PARTIAL_FILE, PARTIAL_FILE, PARTIAL_FILE])
  })
  assertEndedByFin(flows)
  for (const { runtime, mirror } of askers) {
    const drained = logLines(mirror).find(({ event }) => event === 'drained')
    assert.equal(drained?.cut, 1, `${runtime}: expected the body to be cut at the end of the time to drain`)
  }
})

test('reset: the client leaves in mid-body', async () => {
  await untilHeldBy(cluster, image, { holders: [holder], askers })
  await holder.network.shape('out', RATE)
  const cancelled = ({ mirror }: Node) =>
    logLines(mirror).filter(({ event, outcome }) => event === 'transfer' && outcome === 'cancelled').length
  const flows = await captured(async () => {
    await forEachAsker(async (asker) => {
      const before = cancelled(asker)
      const { exitCode, size } = await asker.curl(blobPath(image, layer()), { bytesPerSecond: MB, maxSeconds: 4 })
      assert.equal(exitCode, TIMED_OUT)
      assert.ok(size > 0)
      await until(`the mirror of ${asker.name} to give up the transfer`, () => cancelled(asker) > before)
    })
  })
  for (const [index, ends] of flows.entries()) {
    const { runtime } = askers[index] ?? assert.fail('no asker')
    // The client's own kernel answers later packets with RST.
    assert.ok(
      ends.some(({ clientReset }) => clientReset),
      `${runtime}: expected the client to leave`,
    )
    assert.deepEqual(
      ends.filter(({ end }) => end === 'RST'),
      [],
      `${runtime}: ended with RST`,
    )
  }
})

test("reset: the mirror's own file is truncated", async () => {
  await forEachAsker((asker) => asker.pull(image.reference))
  const flows = await captured(async () => {
    const codes = await forEachAsker(async (asker) => {
      const transfer = asker.startCurl(blobPath(image, layer()), { bytesPerSecond: MIDDLE })
      await until('the body to be in its middle', async () => (await transfer.received()) > MIDDLE)
      await truncate(asker.contentFile(layer()), MIDDLE)
      const { exitCode } = await transfer.result
      return exitCode
    })
    assert.deepEqual(codes, [PARTIAL_FILE, PARTIAL_FILE, PARTIAL_FILE])
  })
  assertEndedByFin(flows)
})
