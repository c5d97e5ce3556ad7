import { createCipheriv, createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { type Descriptor, type Digest, hexOf, parseDigest } from '../../../lib/oci/digest.ts'
import { hostPlatform } from './mirror.ts'
import { directoryEntry, endOfArchive, fileEntry } from './tar.ts'

const MEDIA_TYPE = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
} as const

/** How many bytes of a layer to make at a time. */
const CHUNK = 1 << 20

export interface ImageOptions {
  /** Equal options make equal bytes; another seed makes an image that shares nothing with the first. */
  readonly seed: string
  /** How many bytes of incompressible data each layer holds; with a seed of its own, a layer is shared between images. */
  readonly layers: readonly (number | { readonly size: number; readonly seed: string })[]
  /** By default this machine's platform. More than one makes an index. */
  readonly platforms?: readonly string[]
}

export interface Layer extends Descriptor {
  /** What the layer's two files hold once unpacked. */
  readonly files: readonly { readonly path: string; readonly sha256: string }[]
}

export interface PlatformManifest {
  readonly platform: string
  readonly manifest: Descriptor
  readonly config: Descriptor
  readonly layers: readonly Layer[]
}

/** An image in an OCI image layout on disk, under the name `image`. */
export interface Image {
  readonly layout: string
  /** What a tag of this image points to: the index, or the only manifest. */
  readonly target: Descriptor
  readonly platforms: readonly PlatformManifest[]
  /** The part for this machine. */
  readonly own: PlatformManifest
  /** Every digest that a pull on this machine needs: target, manifest, config and layers. */
  readonly digests: readonly Digest[]
}

/** Writes an image of real gzipped tar layers into the directory, without ever holding a layer in memory. */
export async function makeImage(directory: string, options: ImageOptions): Promise<Image> {
  const own = hostPlatform()
  const { platforms = [own] } = options
  await mkdir(join(directory, 'blobs', 'sha256'), { recursive: true })
  const manifests: PlatformManifest[] = []
  for (const platform of platforms) manifests.push(await makeManifest(directory, options, platform))
  const ownManifest = manifests.find(({ platform }) => platform === own)
  const first = manifests[0]
  if (ownManifest === undefined || first === undefined) throw new Error(`an image without ${own} cannot be pulled here`)
  const entries = manifests.map(({ platform, manifest }) => ({ ...manifest, platform: platformObject(platform) }))
  const target =
    manifests.length === 1
      ? first.manifest
      : await writeJson(directory, MEDIA_TYPE.index, {
          schemaVersion: 2,
          mediaType: MEDIA_TYPE.index,
          manifests: entries,
        })
  const named = { ...target, annotations: { 'org.opencontainers.image.ref.name': 'image' } }
  await writeFile(join(directory, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
  await writeFile(join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [named] }))
  const needed = [target, ownManifest.manifest, ownManifest.config, ...ownManifest.layers].map(({ digest }) => digest)
  return { layout: directory, target, platforms: manifests, own: ownManifest, digests: [...new Set(needed)] }
}

async function makeManifest(directory: string, options: ImageOptions, platform: string): Promise<PlatformManifest> {
  const layers: (Layer & { diffId: Digest })[] = []
  for (const [index, layer] of options.layers.entries()) {
    const { size, seed } = typeof layer === 'number' ? { size: layer, seed: `${options.seed} ${index}` } : layer
    layers.push(await makeLayer(directory, { folder: `layer-${index}`, seed: `${seed} ${platform}`, size }))
  }
  const config = await writeJson(directory, MEDIA_TYPE.config, {
    ...platformObject(platform),
    config: { Labels: { seed: options.seed } },
    rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
  })
  const manifest = await writeJson(directory, MEDIA_TYPE.manifest, {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.manifest,
    config,
    layers: layers.map(({ mediaType, digest, size }, index) => ({
      mediaType,
      digest,
      size,
      // Makes `oras pull` write the layer as a file.
      annotations: { 'org.opencontainers.image.title': layerFileName(index) },
    })),
  })
  return { platform, manifest, config, layers }
}

async function makeLayer(
  directory: string,
  { folder, seed, size }: { folder: string; seed: string; size: number },
): Promise<Layer & { diffId: Digest }> {
  const temporary = join(directory, 'blobs', 'new-layer')
  const name = `${seed}\n`
  const hashes = { data: createHash('sha256'), tar: createHash('sha256'), gzip: createHash('sha256') }
  const tar = async function* () {
    yield directoryEntry(`${folder}/`)
    yield* fileEntry(`${folder}/name`, Buffer.byteLength(name), [Buffer.from(name)])
    yield* fileEntry(`${folder}/data`, size, tap(noise(seed, size), hashes.data))
    yield endOfArchive
  }
  // Noise does not compress: level 0 only frames it, which keeps a layer of 1 GB cheap.
  await pipeline(tap(tar(), hashes.tar), createGzip({ level: 0, chunkSize: CHUNK }), createWriteStream(temporary))
  for await (const chunk of createReadStream(temporary, { highWaterMark: CHUNK })) hashes.gzip.update(chunk)
  const digest = parseDigest(`sha256:${hashes.gzip.digest('hex')}`)
  await rename(temporary, blobFile(directory, digest))
  return {
    mediaType: MEDIA_TYPE.layer,
    digest,
    size: (await stat(blobFile(directory, digest))).size,
    diffId: parseDigest(`sha256:${hashes.tar.digest('hex')}`),
    files: [
      { path: `${folder}/name`, sha256: createHash('sha256').update(name).digest('hex') },
      { path: `${folder}/data`, sha256: hashes.data.digest('hex') },
    ],
  }
}

/** The name under which `oras pull` writes a layer. */
export function layerFileName(index: number): string {
  return `layer-${index}.tar.gz`
}

/** The path of a blob in a layout. */
export function blobFile(layout: string, digest: Digest): string {
  return join(layout, 'blobs', 'sha256', hexOf(digest))
}

/** Bytes that look random and depend only on the seed: a cipher's key stream. */
function* noise(seed: string, size: number): Generator<Buffer> {
  const secret = createHash('sha256').update(seed).digest()
  const cipher = createCipheriv('aes-128-ctr', secret.subarray(0, 16), secret.subarray(16))
  const zeros = Buffer.alloc(CHUNK)
  for (let left = size; left > 0; left -= CHUNK) yield cipher.update(zeros.subarray(0, Math.min(left, CHUNK)))
}

async function* tap(
  source: Iterable<Buffer> | AsyncIterable<Buffer>,
  hash: ReturnType<typeof createHash>,
): AsyncGenerator<Buffer> {
  for await (const chunk of source) {
    hash.update(chunk)
    yield chunk
  }
}

async function writeJson(directory: string, mediaType: string, content: unknown): Promise<Descriptor> {
  const bytes = Buffer.from(JSON.stringify(content))
  const digest = parseDigest(`sha256:${createHash('sha256').update(bytes).digest('hex')}`)
  await writeFile(blobFile(directory, digest), bytes)
  return { mediaType, digest, size: bytes.length }
}

function platformObject(platform: string): { os: string; architecture: string } {
  const [os, architecture] = platform.split('/')
  if (os === undefined || architecture === undefined) throw new Error(`platform ${platform}: expected os/architecture`)
  return { os, architecture }
}
