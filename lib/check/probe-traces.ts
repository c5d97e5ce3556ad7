import { lstat, mkdir, readdir, rename, rmdir, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { ContainerdClient } from '../containerd/client.ts'
import type { CriClient } from '../containerd/client-cri.ts'
import { ContainerdError } from '../containerd/error.ts'
import { HOSTS_FILE } from '../hosts/directory.ts'
import type { Logger } from '../observe/log.ts'
import { type Digest, isDigest } from '../oci/digest.ts'
import { bounded } from '../runtime/bounded.ts'
import { isProbeServed } from './probe-door.ts'
import { isProbeRegistry, probeOfLabels, probeOfName, probePort } from './probe-image.ts'

/**
 * First and longest wait before it is looked again whether all is gone, in milliseconds; it doubles in between: a pull that
 * was given up on may still end in containerd.
 */
const PAUSE_FIRST = 100
const PAUSE_MOST = 1_600
/** Longest time for the removal of one probe in milliseconds: containerd answers some of it after a garbage collection. */
export const REMOVE_TIMEOUT = 10_000
/** Longest wait in milliseconds for the answer of a door that may serve a probe: it is on this machine. */
const ALIVE_TIMEOUT = 1_000

/** What a probe works with, and leaves something in. */
export interface ProbePlaces {
  /** containerd in the namespace of CRI. */
  readonly client: Pick<
    ContainerdClient,
    'images' | 'listContent' | 'deleteContent' | 'deleteImage' | 'leases' | 'deleteLease'
  >
  readonly cri: Pick<CriClient, 'removeImage'>
  readonly certsDir: string
}

/**
 * Writes the hosts.toml of a probe, in one step: containerd, and who looks for what was left behind, see all of it or none.
 *
 * @throws what `node:fs` throws, such as EACCES or EROFS; nothing is left then
 */
export async function writeProbeHosts(certsDir: string, registry: string, door: string): Promise<void> {
  const made = join(certsDir, `.${registry}`)
  await mkdir(made)
  try {
    const host = JSON.stringify(door)
    const lines = [`server = ${host}`, `[host.${host}]`, '  capabilities = ["pull", "resolve"]', '']
    await writeFile(join(made, HOSTS_FILE), lines.join('\n'))
    await rename(made, join(certsDir, registry))
  } catch (error) {
    await removeHosts(made)
    throw error
  }
}

/**
 * Removes everything that a probe has left: its image with all names that the runtime gave it, the leases on its content,
 * the content itself, and its hosts.toml last, so that a killed removal is found again.
 *
 * @throws when containerd cannot be asked; the signal's reason, with which something may still be there
 */
export async function removeProbe(places: ProbePlaces, registry: string, signal: AbortSignal): Promise<void> {
  for (let pause = PAUSE_FIRST; await removeFromContainerd(places, registry, signal); pause *= 2) {
    await delay(Math.min(pause, PAUSE_MOST), undefined, { signal })
  }
  for (const name of [registry, `.${registry}`]) await removeHosts(join(places.certsDir, name))
}

/**
 * Removes what probes have left that were killed. A probe that runs, here or in another process, is left alone.
 *
 * @param hosts where doors of this machine may be, besides 127.0.0.1
 * @returns the names of what was removed
 */
export async function sweepProbes(
  places: ProbePlaces,
  { hosts, log }: { readonly hosts: readonly string[]; readonly log: Logger },
  signal: AbortSignal,
): Promise<readonly string[]> {
  const swept: string[] = []
  for (const registry of await findProbes(places, signal)) {
    if (await mayRun(registry, hosts, signal)) continue
    await bounded(REMOVE_TIMEOUT, signal, (bound) => removeProbe(places, registry, bound))
    log.info('remains of a killed probe removed', { registry })
    swept.push(registry)
  }
  return swept
}

/** The probes that have left something anywhere. */
async function findProbes({ client, certsDir }: ProbePlaces, signal: AbortSignal): Promise<ReadonlySet<string>> {
  const found = new Set<string>()
  for (const name of await unlessMissing(readdir(certsDir), [])) {
    const registry = name.startsWith('.') ? name.slice(1) : name
    if (isProbeRegistry(registry)) found.add(registry)
  }
  for (const { name } of await client.images(signal)) {
    const registry = probeOfName(name)
    if (registry !== undefined) found.add(registry)
  }
  for await (const { labels } of client.listContent(signal)) {
    const registry = probeOfLabels(labels)
    if (registry !== undefined) found.add(registry)
  }
  return found
}

/** Whether the door that a probe names serves it, or may do so. */
async function mayRun(registry: string, hosts: readonly string[], signal: AbortSignal): Promise<boolean> {
  const port = probePort(registry)
  if (port === undefined) return false
  for (const host of new Set(['127.0.0.1', ...hosts])) {
    const ask = (bound: AbortSignal) => isProbeServed({ registry, host, port }, bound)
    const served = await bounded(ALIVE_TIMEOUT, signal, ask)
    signal.throwIfAborted()
    if (served !== false) return true
  }
  return false
}

/** One round of removal; true if there was anything. */
async function removeFromContainerd(
  { client, cri }: ProbePlaces,
  registry: string,
  signal: AbortSignal,
): Promise<boolean> {
  const content = new Set<Digest>()
  for await (const { digest, labels } of client.listContent(signal)) {
    if (probeOfLabels(labels) === registry) content.add(digest)
  }
  const images = await client.images(signal)
  // The content is nobody else's, so whatever points to it is the probe's: `sha256:<config>` says no registry.
  const ours = images.filter(({ name, target }) => probeOfName(name) === registry || content.has(target.digest))
  const [first] = ours
  if (first !== undefined) {
    // The runtime keeps a list of its own, and knows all names.
    await unlessUnsupported(cri.removeImage(first.name, signal))
    for (const { name } of ours) await client.deleteImage(name, signal)
  }
  if (content.size === 0) return ours.length > 0
  for (const { id, content: kept } of await client.leases(signal)) {
    if (kept.some((digest) => isDigest(digest) && content.has(digest))) await client.deleteLease(id, signal)
  }
  // Left to the garbage collection, it could stay for as long as nothing else changes: containerd 1.7 forgets what was
  // removed while a collection was deleting files (its scheduler skips what is older than the end of that collection).
  for (const digest of content) await client.deleteContent(digest, signal)
  return true
}

/** Removes the directory of a hosts.toml, unless somebody put something else there. */
async function removeHosts(directory: string): Promise<void> {
  // Asked for first: a file system that is read-only refuses to remove even what is not there.
  if ((await unlessMissing(lstat(directory), undefined)) === undefined) return
  await unlessMissing(unlink(join(directory, HOSTS_FILE)), undefined)
  await unlessMissing(rmdir(directory), undefined)
}

async function unlessMissing<T, F>(promise: Promise<T>, fallback: F): Promise<T | F> {
  try {
    return await promise
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return fallback
    throw error
  }
}

/** A runtime without CRI has no list of its own either. */
async function unlessUnsupported(removal: Promise<void>): Promise<void> {
  try {
    await removal
  } catch (error) {
    if (!(error instanceof ContainerdError && error.code === 'unsupported')) throw error
  }
}
