import { mkdir } from 'node:fs/promises'
import { isIPv4 } from 'node:net'
import { dirname, join } from 'node:path'
import * as v from 'valibot'
import { readDocument, writeDocument } from '../observe/document.ts'
import type { Logger } from '../observe/log.ts'
import { addressOf } from '../platform/address.ts'
import type { NodeAddress } from './node.ts'

const NODES_FILE = 'nodes.json'
/** How many nodes are kept for the next start. Only a few of them must be alive then to find the swarm again. */
const MOST_NODES = 200

const Port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535))
const Nodes = v.array(v.object({ host: v.pipe(v.string(), v.check(isIPv4)), port: Port }))

/**
 * The nodes that a node knew last, in a file for its next start. The file is replaced in one step; a damaged one is logged,
 * renamed and replaced.
 */
export type NodeFiles = Awaited<ReturnType<typeof createNodeFiles>>

/** @throws the system's error if the directory cannot be made or written */
export async function createNodeFiles(dir: string, log: Logger) {
  await makeDirectory(dir)
  let known: readonly NodeAddress[] = (await readDocument(join(dir, NODES_FILE), Nodes, log)) ?? []
  let writing: Promise<void> = Promise.resolve()

  return {
    /** The nodes that this node knew last. */
    get nodes(): readonly NodeAddress[] {
      return known
    },

    /**
     * Keeps nodes for the next start, ahead of those that were known earlier, so a node that finds no others forgets none. It
     * writes the file only if a node is new. It logs a failure to write, because the mirror works without the file.
     */
    remember(nodes: readonly NodeAddress[]): void {
      const present = new Map(nodes.map(({ host, port }) => [addressOf({ host, port }), { host, port }]))
      const earlier = new Map(known.map((node) => [addressOf(node), node]))
      const stayed = [...earlier].filter(([name]) => present.has(name))
      const left = [...earlier].filter(([name]) => !present.has(name))
      // Nodes that stay come first. If the swarm has more nodes than are kept, every call would otherwise keep different ones
      // and write.
      const kept = [...new Map([...stayed, ...present, ...left])].slice(0, MOST_NODES)
      if (kept.every(([name]) => earlier.has(name))) return
      known = kept.map(([, node]) => node)
      writing = writing
        .then(() => writeDocument(join(dir, NODES_FILE), known))
        .catch((error) => log.warn('cannot write the known nodes', { dir, error }))
    },

    /** Waits until the known nodes are on disk. */
    close: (): Promise<void> => writing,
  }
}

/** Makes a directory and those above it. Node's own way never ends where no directory can be made, as in /proc. */
async function makeDirectory(path: string): Promise<void> {
  const make = () => mkdir(path, { mode: 0o700 })
  await make().catch(async (error: NodeJS.ErrnoException) => {
    if (error.code === 'EEXIST') return
    if (error.code !== 'ENOENT') throw error
    await makeDirectory(dirname(path))
    await make()
  })
}
