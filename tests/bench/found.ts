/**
 * How soon other nodes find a layer: from its commit in the content store of one node until the mirror of another one serves it
 * (as root, with what tests/e2e needs):
 *
 *   node tests/bench/found.ts [--layers 100] [--runtime bun]
 *
 * Two nodes; the first pulls images of ten small layers each from the registry, while the second asks its own mirror for every
 * layer, again and again. The containerd is the first in PATH; for 2.1: PATH="$(bash .ci/containerd-2):$PATH".
 */
import { watch } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { type Digest, hexOf } from '../../lib/oci/digest.ts'
import { blobPath, CONTAINERD, createCluster, REGISTRY_DOOR } from '../e2e/harness/index.ts'
import { defaultRuntime } from '../e2e/harness/mirror.ts'
import { median, printTable, quantile } from './figures.ts'

const LAYERS_OF_IMAGE = 10
/** Bytes of a layer: as few as possible, so that the benchmark does not measure the pull. */
const LAYER = 4_000

const { values } = parseArgs({
  options: { layers: { type: 'string', default: '100' }, runtime: { type: 'string', default: 'bun' } },
})
const images = Math.ceil(Number(values.layers) / LAYERS_OF_IMAGE)
process.env.E2E_RUNTIME = values.runtime
const cluster = await createCluster({
  registry: true,
  nodes: ['giver', 'asker'].map((name) => ({ name, runtime: defaultRuntime(), flags: { 'log-level': 'info' } })),
})
const waits: number[] = []
try {
  const [giver, asker] = [cluster.node('giver'), cluster.node('asker')]
  const blobs = join(giver.paths.root, 'io.containerd.content.v1.content', 'blobs', 'sha256')
  await giver.pull((await pushed('first')).reference)
  const committed = new Map<string, number>()
  const watcher = watch(blobs, (_, name) => {
    if (name !== null && !committed.has(name)) committed.set(name, Date.now())
  })
  for (let index = 0; index < images; index++) {
    const image = await pushed(`found ${index}`)
    const paths = image.own.layers.map(({ digest }) => `${REGISTRY_DOOR}${blobPath(image, digest)}`)
    const asking = asker.exec(process.execPath, [join(import.meta.dirname, 'found-main.ts'), ...paths])
    await giver.pull(image.reference)
    const found = JSON.parse(await asking) as number[]
    for (const [at, { digest }] of image.own.layers.entries()) {
      waits.push((found[at] ?? Number.NaN) - (committed.get(hexOf(digest as Digest)) ?? Number.NaN))
    }
  }
  watcher.close()
} finally {
  await cluster.close()
}
console.log(
  `\nFrom the commit of a layer until another node is served it, ms, containerd ${CONTAINERD.text}, ${values.runtime}:\n`,
)
printTable(
  ['layers', 'median', 'p99', 'most'],
  [[String(waits.length), ...[median(waits), quantile(waits, 0.99), quantile(waits, 1)].map((ms) => ms.toFixed(0))]],
)

async function pushed(seed: string) {
  const layers = Array.from({ length: LAYERS_OF_IMAGE }, () => LAYER)
  const image = await cluster.makeImage({ seed, layers })
  return await cluster.registry.push(image, `found/${seed.replaceAll(' ', '-')}:v1`)
}
