import { randomBytes, randomInt } from 'node:crypto'
import process from 'node:process'
import type { Descriptor } from '../../oci/descriptor.ts'
import { type Image, makeImage, type Platform } from '../../oci/image.ts'

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

const NAME = /^probe-[0-9a-f]{16}-([0-9]{1,5})\.swarmirror\.invalid$/

/** What containerd writes on content: from which registry and repository it came. */
const SOURCE_LABEL = 'containerd.io/distribution.source.'

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

/** Whether a registry's name is that of a probe of this program: of this process, of another, or of one that was killed. */
export function isProbeRegistry(registry: string): boolean {
  return NAME.test(registry)
}

/** Whether that is the directory of a probe's hosts.toml; with a dot before it, while it is written. */
export function isProbeDirectory(name: string): boolean {
  return isProbeRegistry(name.startsWith('.') ? name.slice(1) : name)
}

/** The port of the door that served a probe. */
export function probePort(registry: string): number | undefined {
  const port = NAME.exec(registry)?.[1]
  return port === undefined ? undefined : Number(port)
}

/** The registry of a probe that containerd's name of an image belongs to, if one. */
export function probeOfName(name: string): string | undefined {
  const [registry = ''] = name.split('/', 1)
  return isProbeRegistry(registry) ? registry : undefined
}

/** The registry of a probe that content came from, by the labels that containerd put on it. */
export function probeOfLabels(labels: Readonly<Record<string, string>>): string | undefined {
  for (const label of Object.keys(labels)) {
    const source = label.startsWith(SOURCE_LABEL) ? label.slice(SOURCE_LABEL.length) : ''
    if (isProbeRegistry(source)) return source
  }
  return undefined
}
