import { open, rename } from 'node:fs/promises'
import { join } from 'node:path'
import type { Digest } from '../../../lib/oci/digest.ts'
import type { Node } from '../../e2e/harness/index.ts'

/**
 * Inverts one byte of a blob on a node's disk, in place. The size stays, and readers with an open file read the wrong byte.
 * Doing it twice repairs the blob.
 */
export async function flipByte(node: Node, digest: Digest, place: number): Promise<void> {
  const file = await open(node.contentFile(digest), 'r+')
  try {
    const byte = new Uint8Array(1)
    await file.read(byte, 0, 1, place)
    byte[0] = ~(byte[0] ?? 0)
    await file.write(byte, 0, 1, place)
  } finally {
    await file.close()
  }
}

/** Removes a blob's file behind the backs of containerd and the mirror. Returns a function that restores it. */
export async function takeAway(node: Node, digest: Digest): Promise<() => Promise<void>> {
  const file = node.contentFile(digest)
  const aside = join(node.paths.root, digest.replace(':', '-'))
  await rename(file, aside)
  return () => rename(aside, file)
}
