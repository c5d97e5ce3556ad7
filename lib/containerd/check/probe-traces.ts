import { lstat, mkdir, readdir, readFile, rename, rmdir, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '../../observe/log.ts'
import { type Digest, isDigest } from '../../oci/digest.ts'
import { bounded } from '../../platform/abort.ts'
import { unlessMissing } from '../../store/missing.ts'
import type { ContainerdClient } from '../client/client.ts'
import type { CriClient } from '../client/cri.ts'
import { ContainerdError } from '../client/error.ts'
import { HOSTS_FILE } from '../hosts/look.ts'
import { isProbeRegistry, probeOfLabels, probeOfName, probePort } from '../probe-name.ts'
import { isProbeServed } from './probe-door.ts'

/**
 * First and longest wait before another look whether all is gone, in milliseconds; it doubles in between. A pull that was given
 * up on may still end in containerd.
 */
const PAUSE_FIRST = 100
const PAUSE_MOST = 1_600
/** How many looks in a row must find nothing where the end of the pull was not seen: it may have been cancelled a moment ago. */
const LOOKS = 3
/** Longest time for the removal of one probe in milliseconds: containerd answers some of it after a garbage collection. */
export const REMOVE_TIMEOUT = 10_000
/** Longest wait in milliseconds for the answer of a door that may serve a probe: it is on this machine. */
const ALIVE_TIMEOUT = 1_000

/** What a probe works with, and leaves something in. */
export interface ProbePlaces {
  /** containerd in the namespace of CRI. */
  readonly client: ContainerdClient
  readonly cri: CriClient
  readonly certsDir: string
}

/** What a probe may have left. */
export interface ProbeRemains {
  readonly registry: string
  /** The digests of its content: what was just written has no label yet. */
  readonly content: readonly Digest[]
  /** Whether its pull is known to be over. */
  readonly ended: boolean
}

/** Begins the line of a probe's hosts.toml that lists the digests of its content, so that a later sweep can remove them. */
const CONTENT = '# content of the probe: '

/**
 * Writes the hosts.toml of a probe in one step: containerd, and a sweep for what was left behind, see all of it or none.
 *
 * @throws what `node:fs` throws, such as EACCES or EROFS; nothing is left then
 */
export async function writeProbeHosts(
  certsDir: string,
  registry: string,
  { door, content }: { readonly door: string; readonly content: readonly Digest[] },
): Promise<void> {
  const made = join(certsDir, `.${registry}`)
  await mkdir(made)
  try {
    const host = JSON.stringify(door)
    const told = `${CONTENT}${content.join(' ')}`
    const lines = [told, `server = ${host}`, `[host.${host}]`, '  capabilities = ["pull", "resolve"]', '']
    await writeFile(join(made, HOSTS_FILE), lines.join('\n'))
    await rename(made, join(certsDir, registry))
  } catch (error) {
    await removeHosts(made)
    throw error
  }
}

/**
 * Removes everything that a probe has left: what is still being written, its image with all names that CRI gave it, the
 * leases on its content, the content itself, and its hosts.toml last, so that a killed removal is found again.
 *
 * @throws when containerd cannot be asked; the signal's reason, with which something may still be there
 */
export async function removeProbe(places: ProbePlaces, remains: ProbeRemains, signal: AbortSignal): Promise<void> {
  const { registry, ended } = remains
  const known = new Set([...remains.content, ...(await contentTold(join(places.certsDir, registry)))])
  let pause = PAUSE_FIRST
  let hasFailed = false
  for (let clean = 0; ; pause = Math.min(2 * pause, PAUSE_MOST)) {
    // While containerd removes what a pull has written, it may fail to list that (content/local, status): once is no failure.
    const left = await removeFromContainerd(places, { registry, known }, signal).catch((error: unknown) => {
      if (hasFailed || !(error instanceof ContainerdError) || error.code !== 'unexpected') throw error
      hasFailed = true
      return true
    })
    clean = left ? 0 : clean + 1
    if (clean === (ended ? 1 : LOOKS)) break
    await delay(pause, undefined, { signal })
  }
  for (const name of [registry, `.${registry}`]) await removeHosts(join(places.certsDir, name))
}

/**
 * Removes what killed probes have left. A probe that runs, here or in another process, is left alone.
 *
 * @param hosts where doors of this machine may be, besides 127.0.0.1
 * @returns the registries of the probes that were removed
 */
export async function sweepProbes(
  places: ProbePlaces,
  { hosts, log }: { readonly hosts: readonly string[]; readonly log: Logger },
  signal: AbortSignal,
): Promise<readonly string[]> {
  const swept: string[] = []
  for (const registry of await findProbes(places, signal)) {
    if (await mayRun(registry, hosts, signal)) continue
    const remains = { registry, content: [], ended: false }
    await bounded(REMOVE_TIMEOUT, signal, (bound) => removeProbe(places, remains, bound))
    log.info('removed the remains of a killed probe', { registry })
    swept.push(registry)
  }
  return swept
}

/** The probes that have left something anywhere. */
async function findProbes({ client, certsDir }: ProbePlaces, signal: AbortSignal): Promise<ReadonlySet<string>> {
  const directories = (await unlessMissing(readdir(certsDir))) ?? []
  const found = new Set(directories.map((name) => name.replace(/^\./, '')).filter(isProbeRegistry))
  const add = (registry: string | undefined) => registry !== undefined && found.add(registry)
  for (const { name } of await client.images(signal)) add(probeOfName(name))
  for await (const { labels } of client.listContent(signal)) add(probeOfLabels(labels))
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
  { registry, known }: { readonly registry: string; readonly known: ReadonlySet<Digest> },
  signal: AbortSignal,
): Promise<boolean> {
  const writes = (ref: string) => [...known].some((digest) => ref.endsWith(digest))
  // First, so that what is not yet among the content does not come to it afterwards.
  const ingests = (await client.ingests(signal)).filter(writes)
  for (const ref of ingests) await client.abortIngest(ref, signal)
  const content = new Set<Digest>()
  for await (const { digest, labels } of client.listContent(signal)) {
    if (known.has(digest) || probeOfLabels(labels) === registry) content.add(digest)
  }
  const images = await client.images(signal)
  // The content is nobody else's, so whatever points to it is the probe's: `sha256:<config>` says no registry.
  const pointsHere = (digest: Digest) => known.has(digest) || content.has(digest)
  const ours = images.filter(({ name, target }) => probeOfName(name) === registry || pointsHere(target.digest))
  const [first] = ours
  // CRI keeps a list of its own, and knows all names; where it does not run, there is no such list either.
  if (first !== undefined) await cri.removeImage(first.name, signal).catch(unlessUnsupported)
  for (const { name } of ours) await client.deleteImage(name, signal)
  if (content.size + known.size === 0) return ours.length > 0
  const leases = (await client.leases(signal)).filter(
    (lease) => lease.content.some((digest) => isDigest(digest) && pointsHere(digest)) || lease.ingests.some(writes),
  )
  for (const { id } of leases) await client.deleteLease(id, signal)
  // Left to the garbage collection, it could stay for as long as nothing else changes: containerd 1.7 forgets what was
  // removed while a collection was deleting files (its scheduler skips what is older than the end of that collection).
  for (const digest of content) await client.deleteContent(digest, signal)
  return ours.length + content.size + ingests.length + leases.length > 0
}

/** The digests that the hosts.toml of a probe tells; none if it is not there. */
async function contentTold(directory: string): Promise<Digest[]> {
  const text = await unlessMissing(readFile(join(directory, HOSTS_FILE), 'utf8'))
  const line = text?.split('\n').find((line) => line.startsWith(CONTENT)) ?? ''
  return line.slice(CONTENT.length).split(' ').filter(isDigest)
}

/** Removes the directory of a hosts.toml, unless somebody put something else there. */
async function removeHosts(directory: string): Promise<void> {
  // Asked for first: a file system that is read-only refuses to remove even what is not there.
  if ((await unlessMissing(lstat(directory))) === undefined) return
  await unlessMissing(unlink(join(directory, HOSTS_FILE)))
  await unlessMissing(rmdir(directory))
}

function unlessUnsupported(error: unknown): void {
  if (!(error instanceof ContainerdError && error.code === 'unsupported')) throw error
}
