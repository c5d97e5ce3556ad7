/**
 * Flights among mirrors on all three runtimes, over TLS as by default; one of them may send half as much as the others. Nodes join
 * late or are drained, several images are pulled at once, and the network or the registry fails.
 */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import type { Secret } from '../doubles/cri.ts'
import { metricsOf, type Node, type PushedImage, requestsFor, testCluster, until } from '../e2e/harness/index.ts'
import {
  assertWhole,
  imagesDuring,
  LINK,
  type Pulled,
  removeEverywhere,
  shapeLinks,
  shown,
  timedPull,
  untilIngested,
} from './support/rollout.ts'

const MB = 1_000_000
const LAYER = 40 * MB
/** The longest time for a pull, in milliseconds: a single node takes 4 s. */
const BOUND = 90_000
/** The longest time until a pull fails when its registry is gone, in seconds. */
const GONE = 45
const SECRET: Secret = { username: 'team', password: 'pull-secret' }

const flags = { flight: 'on', 'lookup-timeout': undefined }
const cluster = await testCluster({
  nodes: [
    { name: 'a', runtime: 'node', flags },
    { name: 'b', runtime: 'deno', flags },
    { name: 'c', runtime: 'bun', flags },
    { name: 'd', runtime: 'node', flags: { ...flags, 'max-upload-rate': String(LINK / 2) } },
    { name: 'e', runtime: 'bun', flags },
  ],
  registry: true,
  locked: ['basic'],
})
const { registry, nodes } = cluster
const node = (name: string) => cluster.node(name)
await shapeLinks(cluster)
const report: string[] = []
after(() => console.log(`\n${report.join('\n')}\n`))

const push = async (what: string, layers: readonly (number | { size: number; seed: string })[] = [LAYER]) =>
  await registry.push(await cluster.makeImage({ seed: what, layers }), `team/${what.replaceAll(' ', '-')}:v1`)
const pull = (puller: Node, image: PushedImage) => timedPull(puller, image, { timeoutMs: BOUND })

/** Lets all nodes pull: the others start as soon as the first one has begun. */
async function pullAfter(image: PushedImage): Promise<Promise<Pulled>[]> {
  const [first = assert.fail(), ...others] = nodes
  const leads = pull(first, image)
  await untilIngested(first, image, 1)
  const follow = others.map((puller) => pull(puller, image))
  for (const puller of others) await untilIngested(puller, image, 1)
  return [leads, ...follow]
}

/**
 * A fault in the middle of a flight that every pull must survive.
 *
 * @param most images that leave the registry: 1.0 are usual, and 2 if the machine is so busy that nodes do not answer each other in
 *   time; what a node without its mirror gets is extra
 */
async function during(what: string, most: number, happens: () => Promise<unknown>): Promise<void> {
  const image = await push(what)
  const [pulls, images] = await imagesDuring(cluster, image, async () => {
    const begun = await pullAfter(image)
    await untilIngested(node('a'), image, LAYER / 4)
    await happens()
    return await Promise.all(begun)
  }).finally(() => Promise.all(nodes.filter(({ mirror }) => !mirror.running).map(({ mirror }) => mirror.start())))
  report.push(`${what}: ${images.toFixed(2)} images; ${shown(pulls)}`)
  await assertWhole(cluster, image, pulls)
  assert.ok(images <= most, `${images.toFixed(2)} images left the registry`)
  await removeEverywhere(cluster, image)
}

test('flight: nodes join when the first one has 10, 50 and 90 %', async () => {
  const image = await push('late nodes')
  const [pulls, images] = await imagesDuring(cluster, image, async () => {
    const begun = [pull(node('a'), image), pull(node('b'), image)]
    for (const [name, percent] of [
      ['c', 10],
      ['d', 50],
      ['e', 90],
    ] as const) {
      await untilIngested(node('a'), image, (LAYER * percent) / 100)
      begun.push(pull(node(name), image))
    }
    return await Promise.all(begun)
  })
  report.push(`late nodes: ${images.toFixed(2)} images; ${shown(pulls)}`)
  await assertWhole(cluster, image, pulls)
  assert.ok(images <= 2.2, `${images.toFixed(2)} images left the registry`)
  await removeEverywhere(cluster, image)
})

test('flight: three images at once, two of which share a layer', async () => {
  const common = { size: 15 * MB, seed: 'common' }
  const images = [
    await push('first with common', [common, 8 * MB]),
    await push('second with common', [common, 8 * MB]),
    await push('another', [9 * MB]),
  ]
  const [first = assert.fail()] = images
  const unique = (15 + 8 + 8 + 9) * MB
  const before = await registry.network.carried()
  const pulls = await Promise.all(
    images.flatMap((image) => nodes.map(async (puller) => [image, await pull(puller, image)] as const)),
  )
  const left = ((await registry.network.carried()).out - before.out) / unique
  report.push(`three at once: ${left.toFixed(2)} of all; ${shown(pulls.map(([, pulled]) => pulled))}`)
  for (const [image, pulled] of pulls) await assertWhole(cluster, image, [pulled])
  assert.ok(left <= 2.2, `all of it left the registry ${left.toFixed(2)} times`)
  const requests = await registry.requestsDuring(async () => pull(node('a'), first))
  assert.deepEqual(
    requestsFor(
      first.own.layers.map(({ digest }) => digest),
      requests,
    ),
    [],
  )
  for (const image of images) await removeEverywhere(cluster, image)
})

test('flight: SIGTERM drains a mirror that follows and is followed', async () => {
  await during('a drained mirror', 2.2, async () => assert.equal(await node('c').mirror.stop(), 0))
})

test('flight: the mirror that keeps the claims is killed', async () => {
  await during('a killed keeper', 3.2, async () => {
    // Another test kills the leader's mirror.
    const kept = async (name: string) => /^swarmirror_flight_kept [1-9]/m.test(await metricsOf(node(name)))
    for (const name of ['e', 'd', 'c', 'b', 'a']) {
      if (!(await kept(name))) continue
      report.push(`the keeper is ${name}`)
      await node(name).mirror.kill()
      return
    }
    assert.fail('nobody keeps the claim')
  })
})

test('flight: the registry is restarted', async () => {
  await during('a restarted registry', 2.2, () => registry.daemon.restart('kill'))
})

test('flight: members that cannot reach each other split into two flights, and every pull succeeds', async () => {
  const sides = [nodes.slice(0, 2), nodes.slice(2)]
  const routes = async (what: 'add' | 'delete') => {
    for (const [index, side] of sides.entries())
      for (const { network } of side)
        for (const { address } of sides[1 - index] ?? [])
          await network.exec('ip', ['route', what, 'blackhole', address])
  }
  const image = await push('split members')
  await routes('add')
  const [pulls, images] = await imagesDuring(cluster, image, () =>
    Promise.all(nodes.map((puller) => pull(puller, image))),
  )
  await routes('delete')
  report.push(`split members: ${images.toFixed(2)} images; ${shown(pulls)}`)
  await assertWhole(cluster, image, pulls)
  // The keepers of a digest may all be on the other side, until the members notice their absence.
  assert.ok(images <= 4.2, `${images.toFixed(2)} images left the registry`)
  await removeEverywhere(cluster, image)
})

test('flight: only a node without permission upstream fails, and at once', async () => {
  const locked = cluster.locked('basic')
  locked.lock.setSecrets([SECRET])
  const image = await locked.push(await cluster.makeImage({ seed: 'locked', layers: [10 * MB] }), 'team/locked:v1')
  const pulls = await Promise.all(
    nodes.map(
      async (puller) =>
        await timedPull(puller, image, { timeoutMs: BOUND, ...(puller.name !== 'c' && { secret: SECRET }) }),
    ),
  )
  report.push(`without permission: ${shown(pulls)}`)
  const denied = pulls.find(({ name }) => name === 'c') ?? assert.fail()
  // containerd 2 reports the mirror's answer.
  assert.match(String(denied.error), /401|403|authoriz|not found/i)
  await assertWhole(
    cluster,
    image,
    pulls.filter((pulled) => pulled !== denied),
  )
  await removeEverywhere(cluster, image)
})

test('flight: when the registry is gone, every pull fails, and none hangs', async () => {
  const image = await push('a registry that goes')
  const begun = await pullAfter(image)
  await untilIngested(node('a'), image, LAYER / 4)
  await registry.daemon.kill()
  const pulls = await Promise.all(begun)
  await registry.daemon.start()
  report.push(`the registry is gone: ${shown(pulls)}`)
  for (const { name, error } of pulls) assert.ok(error !== undefined, name)
  assert.ok(Math.max(...pulls.map(({ seconds }) => seconds)) < GONE)
  // The next try succeeds.
  await until('the nodes to try again', async () => {
    const again = await Promise.all(nodes.map((puller) => pull(puller, image)))
    report.push(`the next try: ${shown(again)}`)
    return again.every(({ error }) => error === undefined)
  })
})
