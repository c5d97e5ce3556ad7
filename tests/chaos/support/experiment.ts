import assert from 'node:assert/strict'
import { stat } from 'node:fs/promises'
import type { Digest } from '../../../lib/oci/digest.ts'
import { digestKey } from '../../../lib/oci/key.ts'
import {
  type Cluster,
  metricsOf,
  type Node,
  type PushedImage,
  requestsFor,
  totalOf,
  type UpstreamRequest,
  until,
} from '../../e2e/harness/index.ts'
import { within } from '../../fixtures/wait.ts'

/**
 * The longest time that a disturbed pull may take, in milliseconds. Undisturbed ones take about 5 s, and a fault adds one or two of
 * the mirror's own bounds; this leaves room for a busy machine.
 */
export const PULL_BOUND = 60_000

/** The longest packet that still passes when large ones are lost, in bytes: less than any tunnel leaves of Ethernet's 1500. */
export const LONGEST_PACKET = 1_300

/** The longest time until containerd has collected what a failed pull left, in milliseconds. It takes about a second. */
const COLLECTION_BOUND = 30_000

/** The outcome of a pull. */
export interface Outcome {
  readonly what: string
  readonly asker: Node
  /** From the beginning of the first try to the end of the last, in milliseconds. */
  readonly ms: number
  /** How long the first try took to fail, in milliseconds, if it did. */
  readonly failedAfter: number | undefined
  readonly tries: number
  /** Bytes that came to the asker over the network beyond those of the image. */
  readonly twice: number
  /** How often the asker's mirror continued from another peer in the middle of a body. */
  readonly resumes: number
  /** How often it asked one more peer because the earlier ones did not answer yet. */
  readonly hedges: number
  /** How many bodies from peers broke off there, plus how many requests to peers failed. */
  readonly losses: number
  /** The requests for the image that upstream got. */
  readonly upstream: readonly UpstreamRequest[]
  /** The errors of failed tries. */
  readonly errors: readonly string[]
}

/** What an asker's mirror counts, as part of an {@link Outcome}. */
export type Counts = Pick<Outcome, 'resumes' | 'hedges' | 'losses'>

const NO_COUNTS: Counts = { resumes: 0, hedges: 0, losses: 0 }

export interface Experiment {
  readonly what: string
  readonly asker: Node
  readonly image: PushedImage
  /** The fault happens when this many bytes of this download have come; without this there is none. */
  readonly when?: { readonly digest: Digest; readonly bytes: number }
  readonly fault?: () => Promise<void>
  /** Given if the pull may fail once and be tried again, as the kubelet does: what the second try waits for. */
  readonly retry?: () => Promise<void>
}

/** Pulls the image at the asker, lets the fault happen in the middle, and returns the outcome. Does not verify the content. */
export async function pullUnder(cluster: Cluster, experiment: Experiment): Promise<Outcome> {
  const { what, asker, image, when, fault, retry } = experiment
  const errors: string[] = []
  let ms = 0
  let failedAfter: number | undefined
  let came = 0
  let counts = NO_COUNTS
  const asked = await cluster.registry.requestsDuring(async () => {
    const before = await asker.network.carried()
    const counted = await countsOf(asker)
    const start = performance.now()
    // A fault may take longer than the pull: a mirror that is told to stop withdraws its announcements.
    let endedAt = start
    const pull = async () => {
      const error = await pullOnce(asker, image)
      endedAt = performance.now()
      return error
    }
    let pulled = pull()
    if (when !== undefined) {
      // A pull that fails early must end this wait.
      const failed = pulled.then((error) => error && Promise.reject(new Error(error)))
      const middle = until('the pull to be in its middle', async () => (await asker.ingested(when.digest)) > when.bytes)
      await Promise.race([middle, failed.then(() => middle)])
      await fault?.()
    }
    for (;;) {
      const error = await within(`${what}: the end of the pull`, pulled, PULL_BOUND)
      if (error === undefined) break
      failedAfter ??= endedAt - start
      errors.push(error)
      if (retry === undefined || errors.length > 1) throw new Error(`${what}: ${errors.join('; ')}`)
      await retry()
      pulled = pull()
    }
    ms = endedAt - start
    counts = await countsOf(asker, counted)
    came = (await asker.network.carried()).in - before.in
  })
  const upstream = requestsFor(image.digests, asked)
  const twice = came - sizeOf(image)
  return { what, asker, ms, failedAfter, tries: errors.length + 1, twice, ...counts, upstream, errors }
}

/** Bytes of everything that a node pulls of an image. */
export function sizeOf({ own: { manifest, config, layers } }: PushedImage): number {
  return [manifest, config, ...layers].reduce((sum, { size }) => sum + size, 0)
}

/** The mirror's own counts so far, or since those of `before`. */
export async function countsOf(node: Node, before = NO_COUNTS): Promise<Counts> {
  const metrics = await metricsOf(node)
  const count = (name: string, labels?: string) => totalOf(metrics, name, labels)
  const failed = count('peer_requests', 'outcome="(?:unreachable|silent|invalid)"')
  return {
    resumes: count('transfer_resumes') - before.resumes,
    hedges: count('hedges') - before.hedges,
    losses: count('transfer_breaks', 'reason="[a-z]+"') + failed - before.losses,
  }
}

/** Waits until containerd has collected what a failed pull left, so that the next one starts afresh. */
export async function untilCollected(node: Node, image: PushedImage): Promise<void> {
  const left = async () =>
    (await Promise.all(image.own.layers.map(({ digest }) => node.ingested(digest)))).some(Boolean)
  await until('the failed pull to be collected', async () => !(await left()), { timeoutMs: COLLECTION_BOUND })
}

/**
 * Waits until each holder announces the whole image, and the askers' doors offer it. A former holder may still be announced: a
 * mirror tries only once to withdraw at nodes that have just died or are busy, and this costs others a 404 at most.
 */
export async function untilHeldBy(
  cluster: Cluster,
  image: PushedImage,
  { holders, askers }: { holders: readonly Node[]; askers: readonly Node[] },
): Promise<void> {
  const names = holders.map(({ name }) => name)
  await until(`${names.join(' and ')} to announce ${image.reference}`, async () => {
    const announcers = await cluster.announcers(image.digests.map(digestKey))
    const isComplete = Object.values(announcers).every((found) => names.every((name) => found.includes(name)))
    // If the wait takes too long, the last finding becomes the cause of its error.
    assert.ok(isComplete, JSON.stringify(announcers))
    return true
  })
  await Promise.all(askers.map((asker) => asker.untilOffered(image)))
}

/**
 * Removes the image at a node, and what an interrupted pull left (a killed containerd keeps it for a day). Waits until its blobs
 * are gone.
 */
export async function forget(node: Node, image: PushedImage): Promise<void> {
  await node.removeImage(image.reference)
  const leases = (await node.ctr('leases', 'list', '--quiet')).split('\n').filter(Boolean)
  for (const lease of leases) await node.ctr('leases', 'delete', '--sync', lease)
  await until(`${node.name} to have forgotten ${image.reference}`, async () => {
    const present = await Promise.all(image.digests.map((digest) => exists(node.contentFile(digest))))
    return !present.some(Boolean)
  })
}

/** The node that has sent the most since the call, as soon as one has sent 1 MiB. */
export async function busiest(nodes: readonly Node[]): Promise<Node> {
  const sent = async () => await Promise.all(nodes.map(async ({ network }) => (await network.carried()).out))
  const before = await sent()
  const enough = 1 << 20
  return await until('a node to send', async () => {
    const rates = (await sent()).map((bytes, index) => bytes - (before[index] ?? 0))
    const most = Math.max(...rates)
    return most > enough ? nodes[rates.indexOf(most)] : undefined
  })
}

/** One try. Returns the error as text if it fails. */
async function pullOnce(asker: Node, image: PushedImage): Promise<string | undefined> {
  try {
    await asker.pull(image.reference, { timeoutMs: PULL_BOUND })
    return undefined
  } catch (error) {
    return String(error)
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}
