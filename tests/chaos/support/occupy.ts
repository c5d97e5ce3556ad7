import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Digest } from '../../../lib/oci/digest.ts'
import { Daemon } from '../../e2e/harness/daemon.ts'
import { blobPath, type Cluster, type Namespace, type Node, type PushedImage } from '../../e2e/harness/index.ts'
import { PEER_PORT } from '../../e2e/harness/mirror.ts'

/** More than a peer door takes at a time by default (64). */
const REQUESTS = 100

/** What {@link occupy} tells its process. */
export interface OccupyOrder {
  /** In hex. */
  readonly swarmKey: string
  readonly host: string
  readonly port: number
  readonly path: string
  readonly digest: Digest
  readonly requests: number
}

export interface Occupation {
  /** How many requests were answered with the blob, and are being read slowly. */
  readonly held: number
  /** How many were refused with 503. */
  readonly refused: number
  end(): Promise<void>
}

/** Fills a node's peer door with slow readers of a blob that have every right to it. */
export async function occupy(
  cluster: Cluster,
  { door, from, image, digest }: { door: Node; from: Namespace; image: PushedImage; digest: Digest },
): Promise<Occupation> {
  const { swarmKey } = cluster
  const path = blobPath(image, digest)
  const order: OccupyOrder = { swarmKey, host: door.address, port: PEER_PORT, path, digest, requests: REQUESTS }
  const logDirectory = await mkdtemp(join(tmpdir(), 'swarmirror-occupy-'))
  const daemon = new Daemon({
    name: 'occupy',
    title: `the readers that fill ${door.name}`,
    namespace: from,
    logDirectory,
    command: process.execPath,
    args: () => [join(import.meta.dirname, 'occupy-main.ts'), JSON.stringify(order)],
    ready: (daemon) => daemon.output('stdout').endsWith('\n'),
  })
  const end = async () => {
    if (daemon.running) await daemon.kill()
    await rm(logDirectory, { recursive: true, force: true })
  }
  try {
    await daemon.start()
    const statuses: Record<number, number> = JSON.parse(daemon.output('stdout'))
    return { held: statuses[200] ?? 0, refused: statuses[503] ?? 0, end }
  } catch (error) {
    await end()
    throw error
  }
}
