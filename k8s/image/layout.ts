import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const INDEX = 'application/vnd.oci.image.index.v1+json'

interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

/**
 * Replaces the manifests of an OCI image layout with one image index of them, under the image's full name. containerd reads its
 * own annotation, and other tools OCI's.
 *
 * @param dir a layout whose manifests are named by architecture, as `buildah push ... oci:DIR:ARCH` writes them
 * @returns the index's digest
 */
export async function writeIndex(
  dir: string,
  name: string,
  annotations: Readonly<Record<string, string>>,
): Promise<string> {
  const file = join(dir, 'index.json')
  const pushed = JSON.parse(await readFile(file, 'utf8')) as {
    manifests: (Descriptor & { annotations: Record<string, string> })[]
  }
  const manifests = pushed.manifests
    .map(({ mediaType, digest, size, annotations }) => {
      const architecture = annotations['org.opencontainers.image.ref.name'] ?? ''
      return { mediaType, digest, size, platform: { architecture, os: 'linux' } }
    })
    .sort((a, b) => (a.platform.architecture < b.platform.architecture ? -1 : 1))
  const index = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests, annotations }))
  const hex = createHash('sha256').update(index).digest('hex')
  await writeFile(join(dir, 'blobs', 'sha256', hex), index)
  const named = { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': name }
  const descriptor = { mediaType: INDEX, digest: `sha256:${hex}`, size: index.length, annotations: named }
  await writeFile(file, JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests: [descriptor] }))
  return descriptor.digest
}

/** Packs files of a directory into an archive. The same files give the same bytes. */
export async function packFiles(dir: string, names: readonly string[], file: string, seconds: number): Promise<void> {
  const same = ['--sort=name', '--owner=0', '--group=0', '--numeric-owner', '--mode=u=rwX,go=rX', `--mtime=@${seconds}`]
  // Without the time and the name that gzip would add.
  const compression = file.endsWith('.gz') ? ['--use-compress-program=gzip -9n'] : []
  await promisify(execFile)('tar', [...same, '--format=ustar', ...compression, '-cf', file, '-C', dir, ...names])
}
