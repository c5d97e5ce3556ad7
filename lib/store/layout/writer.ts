import { mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { algorithmOf, hexOf } from '../../oci/digest.ts'
import type { Image } from '../../oci/make-image.ts'
import { OCI_INDEX } from '../../oci/media-type.ts'

/** An image to write, and its names: full references, or any text that a test needs. */
export interface NamedImage {
  readonly image: Image
  readonly names?: readonly string[]
}

/** The annotation that names an entry of index.json (image-spec, "Pre-Defined Annotation Keys"). */
export const REF_NAME = 'org.opencontainers.image.ref.name'

/**
 * Writes images as an OCI image layout into a directory, which is made if needed. Blobs that are there already stay. index.json
 * is replaced as a whole and last, so a reader never sees a name before its content.
 *
 * @throws the file system's error
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
 * Replaces only index.json. An image without a name gets one entry, an image with several names one entry for each.
 *
 * @throws the file system's error
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

/** Writes a file that appears with all its bytes at once, by a rename. */
async function writeWhole(path: string, data: Uint8Array | string): Promise<void> {
  const partial = `${path}.partial`
  await writeFile(partial, data)
  await rename(partial, path)
}
