import { randomBytes, randomInt } from 'node:crypto'
import process from 'node:process'
import type { Descriptor } from '../../oci/descriptor.ts'
import { type Image, makeImage, type Platform } from '../../oci/make-image.ts'

/** An image that exists for one probe, under a name that no registry can have: `.invalid` never resolves (RFC 6761, 6.4). */
export interface ProbeImage {
  /** `probe-<random>-<port of its door>.swarmirror.invalid`. */
  readonly registry: string
  /** Random as well, so that a request is recognised even if its `ns` was lost on the way. */
  readonly repository: string
  readonly tag: string
  /** All of that in full, as it is pulled. */
  readonly reference: string
  readonly image: Image
  readonly layer: Descriptor
}

/** Seeds up to here stay exact in the arithmetic of {@link makeImage}. */
const SEEDS = 2 ** 40
/** Bytes of the probe's only file: what is pulled is three blobs of some 3 KiB together. */
const FILE_SIZE = 64
/** OCI's names for what Node calls an architecture; the others have the same. */
const PLATFORMS: Readonly<Record<string, Omit<Platform, 'os'>>> = {
  x64: { architecture: 'amd64' },
  ia32: { architecture: '386' },
  arm: { architecture: 'arm', variant: 'v7' },
  ppc64: { architecture: 'ppc64le' },
}

/** Makes an image of this machine's platform that nobody has, to be served by a door on that port of this machine. */
export function makeProbeImage(port: number): ProbeImage {
  const token = randomBytes(8).toString('hex')
  const registry = `probe-${token}-${port}.swarmirror.invalid`
  const repository = `swarmirror/probe-${token}`
  const tag = '1'
  const platform = { os: 'linux', ...(PLATFORMS[process.arch] ?? { architecture: process.arch }) }
  const image = makeImage({ layers: 1, layerSize: FILE_SIZE, seed: randomInt(SEEDS), platform })
  const layer = image.contents.at(-1)?.descriptor
  if (layer === undefined) throw new Error('the image of a probe has no layer')
  return { registry, repository, tag, reference: `${registry}/${repository}:${tag}`, image, layer }
}
