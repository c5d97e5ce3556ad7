import { hkdfSync, randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { isIPv4 } from 'node:net'
import { join } from 'node:path'
import b4a from 'b4a'
import * as v from 'valibot'
import { readDocument, writeDocument } from '../observe/document.ts'
import type { Logger } from '../observe/log.ts'
import { addressOf } from '../platform/address.ts'
import type { NodeAddress } from './node.ts'

const IDENTITY_FILE = 'identity.json'
const NODES_FILE = 'nodes.json'
/** How many nodes are kept for the next start. Only a few of them must be alive then to find the swarm again. */
const MOST_NODES = 200

const Identity = v.object({ seed: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)) })
const Port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535))
const Nodes = v.array(v.object({ host: v.pipe(v.string(), v.check(isIPv4)), port: Port }))

/**
 * The files that a node keeps for its next start, in their own directory: the seed of its swarm identity, and the nodes that it
 * knew last. Files are replaced in one step. A damaged file is logged, renamed and replaced.
 */
export type NodeFiles = Awaited<ReturnType<typeof createNodeFiles>>

/** @throws the system's error if the directory cannot be made or written */
export async function createNodeFiles(dir: string, log: Logger) {
  await mkdir(dir, { recursive: true, mode: 0o700 })
  const identity = await readDocument(join(dir, IDENTITY_FILE), Identity, log)
  const seed = identity === undefined ? randomBytes(32) : b4a.from(identity.seed, 'hex')
  if (identity === undefined) await writeDocument(join(dir, IDENTITY_FILE), { seed: b4a.toString(seed, 'hex') })
  let known: readonly NodeAddress[] = (await readDocument(join(dir, NODES_FILE), Nodes, log)) ?? []
  let writing: Promise<void> = Promise.resolve()

  return {
    seed: new Uint8Array(seed),

    /**
     * The seed of the node's identity at an address. A node at another address has another identity, and so has a node with a
     * copy of these files.
     */
    seedAt({ host, port }: NodeAddress): Uint8Array {
      return new Uint8Array(hkdfSync('sha256', seed, '', `swarmirror/identity/1 ${addressOf({ host, port })}`, 32))
    },

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
