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
 * The first and the longest wait before it looks again whether everything is gone, in milliseconds; the wait doubles in between.
 * containerd may take a moment to end a pull that was given up.
 */
const PAUSE_FIRST = 100
const PAUSE_MOST = 1_600
/** How many looks in a row must find nothing if nobody saw the pull end, because it may have been cancelled just now. */
const LOOKS = 3
/** The longest time to remove one probe, in milliseconds: some answers of containerd wait for a garbage collection. */
export const REMOVE_TIMEOUT = 10_000
/** The longest wait for a door that may serve a probe, in milliseconds; the door is on this machine. */
const ALIVE_TIMEOUT = 1_000

/** What a probe works with, and where it leaves traces. */
export interface ProbePlaces {
  /** containerd in the namespace of CRI. */
  readonly client: ContainerdClient
  readonly cri: CriClient
  readonly certsDir: string
}

/** What a probe may have left behind. */
export interface ProbeRemains {
  readonly registry: string
  /** The digests of its content, because new content has no label yet. */
  readonly content: readonly Digest[]
  /** Whether its pull has certainly ended. */
  readonly ended: boolean
}

/** Begins the line of a probe's hosts.toml that lists the digests of its content for a later sweep. */
const CONTENT = '# content of the probe: '

/**
 * Writes the hosts.toml of a probe in one step: containerd and a later sweep see all of it or nothing.
 *
 * @throws what `node:fs` throws, such as EACCES or EROFS; it then leaves nothing behind
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
 * Removes everything that a probe left behind: unfinished content, its image with all names that CRI gave it, the leases on its
 * content, the content itself, and last its hosts.toml, so that a later sweep can finish a killed removal.
 *
 * @throws when containerd does not answer, or the signal's reason; something may then remain
 */
export async function removeProbe(places: ProbePlaces, remains: ProbeRemains, signal: AbortSignal): Promise<void> {
  const { registry, ended } = remains
  const known = new Set([...remains.content, ...(await contentTold(join(places.certsDir, registry)))])
  let pause = PAUSE_FIRST
  let hasFailed = false
  for (let clean = 0; ; pause = Math.min(2 * pause, PAUSE_MOST)) {
    // While containerd removes what a pull wrote, it may fail to list it (content/local, status), so one failure does not count.
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
 * Removes what killed probes left behind. It leaves running probes alone, in this process and in others.
 *
 * @param hosts addresses of this machine where doors may be, besides 127.0.0.1
 * @returns the registries of the removed probes
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

/** The probes that left something anywhere. */
async function findProbes({ client, certsDir }: ProbePlaces, signal: AbortSignal): Promise<ReadonlySet<string>> {
  const directories = (await unlessMissing(readdir(certsDir))) ?? []
  const found = new Set(directories.map((name) => name.replace(/^\./, '')).filter(isProbeRegistry))
  const add = (registry: string | undefined) => registry !== undefined && found.add(registry)
  for (const { name } of await client.images(signal)) add(probeOfName(name))
  for await (const { labels } of client.listContent(signal)) add(probeOfLabels(labels))
  return found
}

/** Whether the door that a probe names serves it, or may serve it. */
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

/** Runs one round of removal. Returns whether there was anything. */
async function removeFromContainerd(
  { client, cri }: ProbePlaces,
  { registry, known }: { readonly registry: string; readonly known: ReadonlySet<Digest> },
  signal: AbortSignal,
): Promise<boolean> {
  const writes = (ref: string) => [...known].some((digest) => ref.endsWith(digest))
  // First the unfinished content, so that it does not become content afterwards.
  const ingests = (await client.ingests(signal)).filter(writes)
  for (const ref of ingests) await client.abortIngest(ref, signal)
  const content = new Set<Digest>()
  for await (const { digest, labels } of client.listContent(signal)) {
    if (known.has(digest) || probeOfLabels(labels) === registry) content.add(digest)
  }
  const images = await client.images(signal)
  // Only the probe has this content, so whatever points to it is the probe's; `sha256:<config>` names no registry.
  const pointsHere = (digest: Digest) => known.has(digest) || content.has(digest)
  const ours = images.filter(({ name, target }) => probeOfName(name) === registry || pointsHere(target.digest))
  const [first] = ours
  // CRI keeps its own list of all names. Where CRI does not run, there is no such list.
  if (first !== undefined) await cri.removeImage(first.name, signal).catch(unlessUnsupported)
  for (const { name } of ours) await client.deleteImage(name, signal)
  if (content.size + known.size === 0) return ours.length > 0
  const leases = (await client.leases(signal)).filter(
    (lease) => lease.content.some((digest) => isDigest(digest) && pointsHere(digest)) || lease.ingests.some(writes),
  )
  for (const { id } of leases) await client.deleteLease(id, signal)
  // The garbage collection might leave it there until something else changes: containerd 1.7 forgets what was removed while a
  // collection was deleting files (its scheduler skips everything older than the end of that collection).
  for (const digest of content) await client.deleteContent(digest, signal)
  return ours.length + content.size + ingests.length + leases.length > 0
}

/** The digests in the hosts.toml of a probe; none if there is no such file. */
async function contentTold(directory: string): Promise<Digest[]> {
  const text = await unlessMissing(readFile(join(directory, HOSTS_FILE), 'utf8'))
  const line = text?.split('\n').find((line) => line.startsWith(CONTENT)) ?? ''
  return line.slice(CONTENT.length).split(' ').filter(isDigest)
}

/** Removes the directory of a hosts.toml, unless somebody put something else there. */
async function removeHosts(directory: string): Promise<void> {
  // Looks first, because a read-only file system even refuses to remove what does not exist.
  if ((await unlessMissing(lstat(directory))) === undefined) return
  await unlessMissing(unlink(join(directory, HOSTS_FILE)))
  await unlessMissing(rmdir(directory))
}

function unlessUnsupported(error: unknown): void {
  if (!(error instanceof ContainerdError && error.code === 'unsupported')) throw error
}
