/** Flights of content that upstream lacks, and of wrong bytes. */
import assert from 'node:assert/strict'
import { open, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, test } from 'node:test'
import type { Digest } from '../../lib/oci/digest.ts'
import { type Node, until } from '../e2e/harness/index.ts'
import {
  assertWhole,
  fiveNodes,
  imagesDuring,
  type Pulled,
  pullAgain,
  shown,
  timedPull,
  untilIngested,
} from './support/rollout.ts'

const MB = 1_000_000
const LAYER = 40 * MB
/** The longest time for a pull, in milliseconds: a single node takes 4 s. */
const BOUND = 60_000
/**
 * The longest time until all pulls of content that upstream lacks fail, in seconds. The mirror sees that upstream refused
 * containerd when containerd removes its files: at once, or 3 s later on a busy machine. It takes two such removals.
 */
const REFUSED = 12

/** How many images may leave the registry when all try again after wrong bytes, and how often bytes change. */
const MOST_AGAIN = 1.6
const CHANGES = 8

const cluster = await fiveNodes()
const { registry, nodes } = cluster
const node = (name: string) => cluster.node(name)
const report: string[] = []
after(() => console.log(`\n${report.join('\n')}\n`))

test('flight: when upstream lacks content, every pull fails, none hangs, and nobody is asked twice', async () => {
  const image = await registry.push(
    await cluster.makeImage({ seed: 'lacking', layers: [2 * MB, MB] }),
    'team/lacking:v1',
  )
  const missing = image.own.layers[1]?.digest ?? assert.fail('no layer')
  await registry.network.exec('curl', ['-sfX', 'DELETE', `${registry.url}/v2/${image.repository}/blobs/${missing}`])
  let pulls: readonly Pulled[] = []
  const requests = await registry.requestsDuring(async () => {
    pulls = await Promise.all(nodes.map((puller) => timedPull(puller, image, { timeoutMs: BOUND })))
  })
  report.push(`upstream lacks a layer: ${shown(pulls)}`)
  // If the mirror made containerd ask again, by a body without a byte, containerd would report that instead of the later answer.
  for (const { name, error } of pulls) assert.match(String(error), /not.?found|unexpected EOF/i, name)
  assert.ok(Math.max(...pulls.map(({ seconds }) => seconds)) < REFUSED)
  const asked = requests.filter(({ method, target }) => method === 'GET' && target.includes(missing))
  assert.deepEqual(
    asked.map(({ status }) => status),
    nodes.map(() => 404),
  )
})

for (const [what, broken] of [
  ['the leader', 'a'],
  ['one in the middle', 'c'],
] as const) {
  test(`flight: wrong bytes in the files of ${what} reach nobody else, and the next try of all is right`, async () => {
    const image = await registry.push(
      await cluster.makeImage({ seed: `wrong bytes of ${what}`, layers: [LAYER] }),
      `team/wrong-${broken}:v1`,
    )
    const layer = image.own.layers[0]?.digest ?? assert.fail('no layer')
    const pulls: Promise<Pulled>[] = []
    for (const puller of nodes) {
      pulls.push(timedPull(puller, image, { timeoutMs: BOUND }))
      await untilIngested(puller, image, 1)
    }
    await untilIngested(node(broken), image, LAYER / 4)
    // Its followers have not read what comes after that.
    await corruptWhatComes(node(broken), layer)
    const first = await Promise.all(pulls)
    report.push(`wrong bytes of ${what}: ${shown(first)}`)
    const right = nodes.slice(0, nodes.indexOf(node(broken))).map(({ name }) => name)
    await assertWhole(
      cluster,
      image,
      first.filter(({ name }) => right.includes(name)),
    )
    assert.ok(
      first.some(({ error }) => error !== undefined),
      'nobody may get wrong bytes',
    )
    const [again, images] = await imagesDuring(cluster, image, () =>
      Promise.all(nodes.map((puller) => pullAgain(puller, image, BOUND))),
    )
    report.push(`the next try: ${images.toFixed(2)} images; ${shown(again)}`)
    await assertWhole(cluster, image, again)
    assert.ok(images <= MOST_AGAIN, `${images.toFixed(2)} images left the registry`)
  })
}

/** Changes bytes that containerd has just written of a blob, again and again, like a failing disk. */
async function corruptWhatComes(of: Node, digest: Digest): Promise<void> {
  const ingests = join(of.paths.root, 'io.containerd.content.v1.content', 'ingest')
  for (const name of await readdir(ingests)) {
    if (!(await readFile(join(ingests, name, 'ref'), 'utf8')).endsWith(digest)) continue
    await using file = await open(join(ingests, name, 'data'), 'r+')
    const flipped = Buffer.from([0xa5, 0x5a, 0xa5, 0x5a])
    let changed = 0
    for (let changes = 0; changes < CHANGES && changed < LAYER; changes++) {
      changed = await until('more to be written', async () => {
        const { size } = await file.stat()
        return size > changed && size
      })
      // A follower may have read it before.
      await file.write(flipped, 0, flipped.length, changed - flipped.length)
    }
    return
  }
  assert.fail(`${of.name} does not get ${digest}`)
}
