import { createHash } from 'node:crypto'
import { type Descriptor, type Digest, parseDigest } from './digest.ts'
import { OCI_CONFIG, OCI_LAYER, OCI_MANIFEST } from './media-type.ts'

/** A piece of content with its bytes. */
export interface Content {
  readonly descriptor: Descriptor
  readonly bytes: Uint8Array
}

/** An image in memory: its target (manifest or index), and all its contents, each once and the target first. */
export interface Image {
  readonly target: Descriptor
  readonly contents: readonly Content[]
  readonly platform?: Platform
}

export interface Platform {
  readonly os: string
  readonly architecture: string
  readonly variant?: string
}

const DEFAULTS = {
  /** Number of layers, each with one file. */
  layers: 3,
  /** Bytes of the file in each layer. */
  layerSize: 4096,
  /** A different seed makes all contents different. */
  seed: 1,
  platform: { os: 'linux', architecture: 'amd64' } as Platform,
  mediaTypes: { manifest: OCI_MANIFEST, config: OCI_CONFIG, layer: OCI_LAYER },
}

export type ImageOptions = Partial<typeof DEFAULTS>

/**
 * Makes a small image in memory that can be unpacked, for demonstrations and tests. Every layer is a tar archive with one file
 * of bytes that do not compress. The same options make the same bytes on every machine and runtime.
 */
export function makeImage(options: ImageOptions = {}): Image {
  const { layers, layerSize, seed, platform, mediaTypes } = { ...DEFAULTS, ...options }
  const layerContents = Array.from({ length: layers }, (_, index) =>
    contentOf(mediaTypes.layer, tarOf(`layer-${index}.bin`, randomBytes(layerSize, seed * 1000 + index))),
  )
  const config = contentOf(
    mediaTypes.config,
    json({
      created: '1970-01-01T00:00:00Z',
      ...platform,
      config: { Labels: { 'org.opencontainers.image.title': `swarmirror image ${seed}` } },
      rootfs: { type: 'layers', diff_ids: layerContents.map((layer) => layer.descriptor.digest) },
      history: layerContents.map((_, index) => ({ created: '1970-01-01T00:00:00Z', created_by: `layer ${index}` })),
    }),
  )
  const manifest = contentOf(
    mediaTypes.manifest,
    json({
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      config: config.descriptor,
      layers: layerContents.map((layer) => layer.descriptor),
    }),
  )
  return { target: manifest.descriptor, contents: unique([manifest, config, ...layerContents]), platform }
}

/** Bytes with their descriptor. */
export function contentOf(mediaType: string, bytes: Uint8Array): Content {
  return { descriptor: { mediaType, digest: digestOf(bytes), size: bytes.length }, bytes }
}

/** The sha256 digest of bytes. */
export function digestOf(bytes: Uint8Array): Digest {
  return parseDigest(`sha256:${createHash('sha256').update(bytes).digest('hex')}`)
}

function unique(contents: readonly Content[]): Content[] {
  return [...new Map(contents.map((content) => [content.descriptor.digest, content])).values()]
}

function json(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value))
}

/** Pseudorandom bytes, the same for the same seed: mulberry32, 32 bits per step, the lowest byte first. */
function randomBytes(length: number, seed: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(length / 4))
  let state = seed >>> 0
  for (let at = 0; at < words.length; at++) {
    state = (state + 0x6d2b79f5) >>> 0
    let word = Math.imul(state ^ (state >>> 15), state | 1)
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61)
    words[at] = word ^ (word >>> 14)
  }
  return new Uint8Array(words.buffer, 0, length)
}

/** A block of tar, in bytes: headers and files are padded to it, and two empty blocks end the archive (POSIX ustar). */
const TAR_BLOCK = 512

/** A tar archive with one file, owned by root and dated 1970. */
function tarOf(name: string, data: Uint8Array): Uint8Array {
  const header = new Uint8Array(TAR_BLOCK)
  const put = (offset: number, text: string) => header.set(new TextEncoder().encode(text), offset)
  const octal = (value: number, width: number) => `${value.toString(8).padStart(width - 1, '0')}\0`
  put(0, name)
  put(100, octal(0o644, 8))
  put(108, octal(0, 8))
  put(116, octal(0, 8))
  put(124, octal(data.length, 12))
  put(136, octal(0, 12))
  put(148, ' '.repeat(8))
  put(156, '0')
  put(257, 'ustar\u000000')
  // The checksum is the sum of the header's bytes with spaces in its own place.
  const checksum = header.reduce((sum, byte) => sum + byte, 0)
  put(148, `${octal(checksum, 7)} `)
  const padded = Math.ceil(data.length / TAR_BLOCK) * TAR_BLOCK
  const archive = new Uint8Array(TAR_BLOCK + padded + 2 * TAR_BLOCK)
  archive.set(header, 0)
  archive.set(data, TAR_BLOCK)
  return archive
}
