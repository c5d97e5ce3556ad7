import { type Descriptor, parseDigest } from './digest.ts'
import { OciError } from './error.ts'
import {
  isIndexMediaType,
  isManifestMediaType,
  isMediaType,
  MANIFEST_SIZE_LIMIT,
  OCI_INDEX,
  OCI_MANIFEST,
} from './media-type.ts'

type JsonObject = Readonly<Record<string, unknown>>

/**
 * The media type of a manifest or index, from its bytes alone: its own `mediaType` if that is known and fits its shape,
 * otherwise OCI's type for its shape (Docker's documents always have `mediaType`). `undefined` for anything else, in particular
 * for a document that could be read both as a manifest and as an index (CVE-2021-41190).
 */
export function sniffManifest(bytes: Uint8Array): string | undefined {
  const document = bytes.length > MANIFEST_SIZE_LIMIT ? undefined : parseObject(bytes)
  if (document?.schemaVersion !== 2) return undefined
  const mediaType = ownMediaType(document) ?? (Array.isArray(document.manifests) ? OCI_INDEX : OCI_MANIFEST)
  return isShapeOf(document, mediaType) ? mediaType : undefined
}

/** Blanks of JSON, and the bytes of a byte order mark. */
const BLANKS = new Set([0x20, 0x09, 0x0a, 0x0d, 0xef, 0xbb, 0xbf])

/** Whether content may be a manifest or index, by its first bytes: it is a JSON object, and a layer is something compressed. */
export function mayBeManifest(head: Uint8Array): boolean {
  const first = head.find((byte) => !BLANKS.has(byte))
  return first === undefined || first === 0x7b
}

/**
 * The children of a manifest or index, in its order: config and layers, or manifests. A `subject` is no
 * child: the manifest only refers to it, and pulling one does not pull the other.
 *
 * @throws {OciError} MANIFEST_INVALID if the bytes are not a document of that media type, or if a child has no media type, no
 *   valid digest, or a size that is not a whole number of bytes; the message names the child
 */
export function childrenOf(bytes: Uint8Array, mediaType: string): Descriptor[] {
  if (!isManifestMediaType(mediaType)) throw invalid(`${mediaType} is not the media type of a manifest or index`)
  if (bytes.length > MANIFEST_SIZE_LIMIT) throw invalid(`${bytes.length} bytes, at most ${MANIFEST_SIZE_LIMIT}`)
  const document = parseObject(bytes)
  if (document === undefined) throw invalid('not a JSON object')
  if (!isShapeOf(document, mediaType)) throw invalid(`not the shape of ${mediaType}`)
  if (isIndexMediaType(mediaType)) return listOf(document, 'manifests')
  return [parseDescriptor(document.config, 'config'), ...listOf(document, 'layers')]
}

/**
 * Reads a descriptor of a manifest. Ignores unknown fields.
 *
 * @param where the descriptor's place for the message, such as `layers[2]`
 * @throws {OciError} MANIFEST_INVALID
 */
export function parseDescriptor(value: unknown, where: string): Descriptor {
  if (!isObject(value)) throw invalid(`${where} is not a descriptor`)
  const { mediaType, digest, size } = value
  if (typeof mediaType !== 'string' || !isMediaType(mediaType)) throw invalid(`${where}.mediaType is not a media type`)
  if (typeof digest !== 'string') throw invalid(`${where}.digest is not a digest`)
  if (!Number.isSafeInteger(size) || (size as number) < 0) throw invalid(`${where}.size is not a number of bytes`)
  try {
    return { mediaType, digest: parseDigest(digest), size: size as number }
  } catch (cause) {
    throw invalid(`${where}.digest: ${(cause as OciError).message}`, cause)
  }
}

/** A missing or null list counts as empty, because Go writes an empty slice as null. */
function listOf(document: JsonObject, field: string): Descriptor[] {
  const list = document[field] ?? []
  if (!Array.isArray(list)) throw invalid(`${field} is not a list`)
  return list.map((child: unknown, index) => parseDescriptor(child, `${field}[${index}]`))
}

/** Whether the document has the parts of its media type and none of another kind, and does not claim another kind. */
function isShapeOf(document: JsonObject, mediaType: string): boolean {
  const own = ownMediaType(document)
  const isIndex = isIndexMediaType(mediaType)
  if (own !== undefined && isIndexMediaType(own) !== isIndex) return false
  const has = (field: string) => document[field] !== undefined && document[field] !== null
  if (isIndex) return document.manifests !== undefined && !has('config') && !has('layers')
  return has('config') && !has('manifests')
}

/** The media type that the document claims, if it is a known one. */
function ownMediaType(document: JsonObject): string | undefined {
  const { mediaType } = document
  return typeof mediaType === 'string' && isManifestMediaType(mediaType) ? mediaType : undefined
}

function parseObject(bytes: Uint8Array): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function invalid(problem: string, cause?: unknown): OciError {
  return new OciError('MANIFEST_INVALID', `invalid manifest: ${problem}`, { cause })
}
