import { join } from 'node:path'
import { digestKey } from '../../../lib/oci/key.ts'
import type { RuntimeName } from '../../../lib/platform/runtime.ts'
import { SWARM_KEY } from '../../fixtures/credentials.ts'
import { type Image, makeImage, withTemporaryDirectory, writeLayout } from '../../fixtures/image.ts'
import { type MirrorProcess, startMirrorProcess } from '../../fixtures/mirror-process.ts'
import { environmentOfPrograms, RUNTIMES } from '../../fixtures/programs.ts'
import { cpuSeconds, printTable, residentMebibytes } from '../figures.ts'
import { Fleet } from './fleet.ts'
import { MeasuredNode } from './measured.ts'
import type { Plan } from './plan.ts'

/** Layers, a config and a manifest make as many digests of an image. */
const PER_IMAGE = 100
/** How many digests the node has whose packets at rest are counted. */
const PACKET_DIGESTS = 2_000
/**
 * Seconds from the last announcement to the stretch that is measured: what was announced within a tenth of the period, 20
 * minutes, is not refreshed when its turn comes, and before that a stretch would look cheaper than it is.
 */
const SETTLING = 125
const READY = 60_000
const ANNOUNCED = 180_000

/** Measures what whole mirrors, and nodes alone, use while they only keep their content announced. */
export async function runRest(plan: Plan): Promise<void> {
  const { at, runtimes, stretch } = plan
  await withTemporaryDirectory(async (dir) => {
    const layouts = [join(dir, 'empty'), join(dir, 'full')]
    const images = imagesOf(at.digests)
    await writeLayout(layouts[0] as string, [])
    await writeLayout(
      layouts[1] as string,
      images.map((image) => ({ image })),
    )
    const fleet = await Fleet.start()
    const mirrors: (MirrorProcess & { readonly runtime: RuntimeName; readonly digests: number })[] = []
    const nodes: MeasuredNode[] = []
    try {
      await fleet.grow(Math.max(at.nodes - runtimes.length * 2 - 2, 2))
      for (const runtime of runtimes) {
        for (const [index, layout] of layouts.entries()) {
          const mirror = await startMirror(runtime, layout, fleet)
          mirrors.push({ ...mirror, runtime, digests: index === 0 ? 0 : at.digests })
        }
      }
      for (const digests of [0, PACKET_DIGESTS]) {
        const node = await MeasuredNode.start('node', fleet)
        nodes.push(node)
        await node.costOf(() => node.advertise([{ set: 'rest', from: 0, to: digests }]))
      }
      await untilAnnounced(images, fleet, mirrors)
      await new Promise((resolve) => setTimeout(resolve, SETTLING * 1_000))
      const used = async () => ({
        mirrors: mirrors.map(({ pid }) => cpuSeconds(pid)),
        nodes: await Promise.all(nodes.map((node) => node.usage())),
      })
      const before = await used()
      await new Promise((resolve) => setTimeout(resolve, stretch * 1_000))
      const after = await used()
      const share = (index: number) => (100 * ((after.mirrors[index] ?? 0) - (before.mirrors[index] ?? 0))) / stretch
      console.log(
        `\nMirrors (main.ts on an OCI layout) at rest, ${at.nodes} nodes, ${stretch} s measured at the real refresh period`,
      )
      printTable(
        ['runtime', 'digests', 'resident MiB', '% of a core', 'of it for what it holds'],
        mirrors.map(({ runtime, digests, pid }, index) => [
          runtime,
          `${digests}`,
          residentMebibytes(pid).toFixed(0),
          share(index).toFixed(2),
          digests === 0 ? '' : (share(index) - share(index - 1)).toFixed(2),
        ]),
      )
      console.log(
        '\nA node at rest, per second: packets that its UDP socket receives (it sends as many), of the DHT and connections; requests of its DHT',
      )
      printTable(
        ['digests', 'packets each way', 'requests', 'records kept for others'],
        nodes.map((_, index) => {
          const [one, two] = [before.nodes[index], after.nodes[index]]
          const rate = (figure: 'received' | 'requests') =>
            (((two?.[figure] ?? 0) - (one?.[figure] ?? 0)) / stretch).toFixed(1)
          const digests = index === 0 ? 0 : PACKET_DIGESTS
          return [`${digests}`, rate('received'), rate('requests'), `${two?.records}`]
        }),
      )
    } finally {
      await Promise.all([...mirrors, ...nodes].map((process) => process.kill()))
      await fleet.close()
    }
  })
}

function imagesOf(digests: number): Image[] {
  return Array.from({ length: digests / PER_IMAGE }, (_, index) =>
    makeImage({ layers: PER_IMAGE - 2, layerSize: 16, seed: index + 1 }),
  )
}

async function startMirror(runtime: RuntimeName, layout: string, fleet: Fleet): Promise<MirrorProcess> {
  const { host, port } = fleet.addresses.next()
  const flags = {
    store: `oci-layout:${layout}`,
    listen: '127.0.0.1:0',
    'peer-listen': `${host}:${port}`,
    'admin-listen': '127.0.0.1:0',
    bootstrap: fleet.bootstrap.map((address) => `${address.host}:${address.port}`).join(','),
    'swarm-key': Buffer.from(SWARM_KEY).toString('hex'),
  }
  const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value])
  return await startMirrorProcess(RUNTIMES[runtime], args, environmentOfPrograms(), AbortSignal.timeout(READY))
}

/** Waits until lookups find all mirrors for the last digest of each image. */
async function untilAnnounced(
  images: readonly Image[],
  fleet: Fleet,
  mirrors: readonly { readonly peer: string; readonly digests: number }[],
): Promise<void> {
  const end = performance.now() + ANNOUNCED
  const expected = mirrors.filter(({ digests }) => digests > 0).map(({ peer }) => peer)
  for (const image of images) {
    const last = image.contents.at(-1)?.descriptor.digest
    if (last === undefined) throw new Error('an image without content')
    while (!(await fleet.findsAll(digestKey(last), expected))) {
      if (performance.now() > end) throw new Error(`not everything was announced after ${ANNOUNCED} ms`)
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }
}
