/** The media types that a mirror must tell apart: those of the manifests endpoint and those of the blobs endpoint. */

export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json'
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json'
export const DOCKER_MANIFEST_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json'

export const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json'
export const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar'

/** The type of a blob whose real type is not known. */
export const OCTET_STREAM = 'application/octet-stream'

/**
 * Largest manifest that is read, in bytes. By the distribution-spec ("Pushing manifests") registries and clients must accept at
 * least 4 megabytes, and registries refuse more.
 */
export const MANIFEST_SIZE_LIMIT = 4 * 1024 * 1024

const INDEXES: ReadonlySet<string> = new Set([OCI_INDEX, DOCKER_MANIFEST_LIST])
const MANIFESTS: ReadonlySet<string> = new Set([...INDEXES, OCI_MANIFEST, DOCKER_MANIFEST])

/** Longest media type, in characters: two names of RFC 6838 (section 4.2) with the slash between them. */
const LONGEST = 255
/** The characters that a header can carry; RFC 6838 allows fewer. */
const VISIBLE = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/

/** Whether a text can be a media type. Authors of images can write anything there. */
export function isMediaType(text: string): boolean {
  return text.length <= LONGEST && VISIBLE.test(text)
}

/**
 * Whether the manifests endpoint serves content of this type: manifests and indexes of OCI and Docker. Docker's schema 1 is not
 * supported: containerd 2.0 stopped pulling it, and older versions stored a converted manifest.
 */
export function isManifestMediaType(mediaType: string): boolean {
  return MANIFESTS.has(mediaType)
}

/** Whether content of this type lists manifests. */
export function isIndexMediaType(mediaType: string): boolean {
  return INDEXES.has(mediaType)
}
