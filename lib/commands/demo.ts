import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Mirror, startMirror } from '../mirror/mirror.ts'
import { createLogger } from '../observe/log.ts'
import { paintFor } from '../observe/paint.ts'
import type { Descriptor } from '../oci/digest.ts'
import { digestOf, makeImage } from '../oci/make-image.ts'
import { childrenOf } from '../oci/manifest.ts'
import { isManifestMediaType } from '../oci/media-type.ts'
import { orAborted } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import { readCommandLine } from '../settings/read.ts'
import { writeLayout } from '../store/layout/writer.ts'
import type { Command, CommandContext } from './command.ts'

const REGISTRY = 'registry.example'
const REPOSITORY = 'demo/app'
const TAG = '1'
const LAYERS = 4
/** Bytes of a layer: large enough to take a moment, small enough for any machine. */
const LAYER_SIZE = 4 * 1024 * 1024
/** Milliseconds that each step may take. */
const STEP_TIMEOUT = 20_000

/** Shows the main job on this machine, without containerd: one mirror gets an image that only another one has. */
export const demo: Command = {
  name: 'demo',
  summary: 'show the main job on this machine: two mirrors, and one gets an image from the other',
  async run(context) {
    await using parts = new AsyncDisposableStack()
    const dir = await mkdtemp(join(tmpdir(), 'swarmirror-demo-'))
    parts.defer(() => rm(dir, { recursive: true, force: true }))
    await show(context, dir, parts)
  },
}

async function show(context: CommandContext, dir: string, parts: AsyncDisposableStack) {
  const { print, report, stop, environment, terminal } = context
  const step = stepper(print)
  const full = join(dir, 'full')
  const empty = join(dir, 'empty')
  const image = makeImage({ layers: LAYERS, layerSize: LAYER_SIZE })
  await writeLayout(full, [{ image, names: [`${REGISTRY}/${REPOSITORY}:${TAG}`] }])
  await writeLayout(empty, [])
  step(
    `made ${REGISTRY}/${REPOSITORY}:${TAG} with ${LAYERS} layers of ${LAYER_SIZE / 2 ** 20} MiB in an OCI image layout`,
  )

  const start = async (name: string, layout: string, ...more: string[]): Promise<Mirror> => {
    const flags = ['--store', `oci-layout:${layout}`, '--lookup-timeout', '1s', '--resolve', 'swarm', ...more]
    for (const door of ['--listen', '--peer-listen', '--admin-listen']) flags.push(door, '127.0.0.1:0')
    const { settings } = readCommandLine({ flags, environment: {} }, {})
    const mirror = await startMirror(settings, createLogger(report, 'error'))
    parts.defer(() => mirror.close())
    await mirror.readiness.reached(AbortSignal.any([stop, AbortSignal.timeout(STEP_TIMEOUT)]))
    step(`started mirror ${name} (${addressOf(mirror.registry)}) on ${name === 'A' ? 'that layout' : 'an empty one'}`)
    return mirror
  }
  const a = await start('A', full)
  const b = await start('B', empty, '--bootstrap', addressOf(a.peer))

  const signal = AbortSignal.any([stop, AbortSignal.timeout(STEP_TIMEOUT)])
  const pulled = await pull(`http://${addressOf(b.registry)}/v2/${REPOSITORY}`, signal, step)
  step(`pulled ${pulled.count} blobs, ${mebibytes(pulled.bytes)} in all, through B; every digest is right`)
  if (terminal.output) {
    const paint = paintFor(true, environment)
    print(`\nBoth mirrors go on until you press Ctrl+C. The page of each shows what it did:\n`)
    print(`  A, which gave   ${paint('bold', `http://${addressOf(a.admin)}/`)}\n`)
    print(`  B, which took   ${paint('bold', `http://${addressOf(b.admin)}/`)}\n\n`)
    await orAborted(Promise.race([a.failed, b.failed]), stop)
    print('\nstopping both mirrors, which may take some seconds\n')
  }
  for (const mirror of [a, b]) await mirror.close()
  step('stopped both mirrors')
}

/** Prints each step with the milliseconds since the one before. */
function stepper(print: (text: string) => void): (text: string) => void {
  let last = performance.now()
  return (text) => {
    const now = performance.now()
    print(`${`${(now - last).toFixed(0)} ms`.padStart(9)}  ${text}\n`)
    last = now
  }
}

/** Pulls and verifies everything from the tag down, as containerd would. */
async function pull(base: string, signal: AbortSignal, step: (text: string) => void) {
  const tag = `${base}/manifests/${TAG}?ns=${REGISTRY}`
  // A has only just announced its image, so the answer is a 404 until B's lookup finds it.
  while (!(await fetch(tag, { method: 'HEAD', signal })).ok) await delay(20, undefined, { signal })
  step('B finds the tag at A')
  let count = 0
  let bytes = 0
  const get = async (descriptor: Descriptor | undefined): Promise<void> => {
    const manifest = descriptor === undefined || isManifestMediaType(descriptor.mediaType)
    const url =
      descriptor === undefined ? tag : `${base}/${manifest ? 'manifests' : 'blobs'}/${descriptor.digest}?ns=${REGISTRY}`
    const response = await fetch(url, { signal })
    if (!response.ok) throw new Error(`${url}: status ${response.status}: ${await response.text()}`)
    const body = new Uint8Array(await response.arrayBuffer())
    const digest = descriptor?.digest ?? response.headers.get('docker-content-digest') ?? ''
    if (digestOf(body) !== digest) throw new Error(`${url}: got ${digestOf(body)}`)
    count++
    bytes += body.length
    const mediaType = response.headers.get('content-type') ?? ''
    step(
      `${digest.slice(0, 19)} ${mebibytes(body.length).padStart(9)} from ${response.headers.get('x-swarmirror-source')}: ${mediaType}`,
    )
    for (const child of manifest ? childrenOf(body, mediaType) : []) await get(child)
  }
  await get(undefined)
  return { count, bytes }
}

function mebibytes(bytes: number): string {
  return bytes < 2 ** 20 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`
}
