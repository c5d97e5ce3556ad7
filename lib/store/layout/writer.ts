import { mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { algorithmOf, hexOf } from '../../oci/digest.ts'
import type { Image } from '../../oci/make-image.ts'
import { OCI_INDEX } from '../../oci/media-type.ts'

/** An image to write, and the names to give it: full references, or whatever a test needs. */
export interface NamedImage {
  readonly image: Image
  readonly names?: readonly string[]
}

/** The annotation that names an entry of index.json (image-spec, "Pre-Defined Annotation Keys"). */
export const REF_NAME = 'org.opencontainers.image.ref.name'

/**
 * Writes images as an OCI image layout into a directory, which is made if needed. Blobs that are there stay there;
 * index.json is replaced as a whole and last, so that a reader never sees a name before its content.
 *
 * @throws what the file system throws
 */
export async function writeLayout(dir: string, images: readonly NamedImage[]): Promise<void> {
  for (const { image } of images) {
    for (const { descriptor, bytes } of image.contents) {
      const blobs = join(dir, 'blobs', algorithmOf(descriptor.digest))
      await mkdir(blobs, { recursive: true })
      await writeWhole(join(blobs, hexOf(descriptor.digest)), bytes)
    }
  }
  await mkdir(join(dir, 'blobs', 'sha256'), { recursive: true })
  await writeWhole(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}')
  await writeIndex(dir, images)
}

/**
 * Replaces index.json alone: an image without a name gets one entry, an image with several gets one for each.
 *
 * @throws what the file system throws
 */
export async function writeIndex(dir: string, images: readonly NamedImage[]): Promise<void> {
  const manifests = images.flatMap(({ image, names = [] }) =>
    names.length === 0 ? [image.target] : names.map((name) => ({ ...image.target, annotations: { [REF_NAME]: name } })),
  )
  await writeWhole(
    join(dir, 'index.json'),
    JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }, undefined, 2),
  )
}

/** A rename makes the file appear with all of its bytes. */
async function writeWhole(path: string, data: Uint8Array | string): Promise<void> {
  const partial = `${path}.partial`
  await writeFile(partial, data)
  await rename(partial, path)
}
