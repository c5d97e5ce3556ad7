import { lstat, mkdir, readdir, rename, rmdir, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from '../../observe/log.ts'
import type { Digest } from '../../oci/digest.ts'
import { bounded } from '../../platform/abort.ts'
import { unlessMissing } from '../../store/missing.ts'
import type { ContainerdClient } from '../client/client.ts'
import type { CriClient } from '../client/cri.ts'
import { unless } from '../client/error.ts'
import { HOSTS_FILE } from '../hosts/look.ts'
import { isProbeRegistry, probeOfName, probePort } from '../probe-name.ts'
import { isProbeServed } from './probe-door.ts'

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

/**
 * Writes the hosts.toml of a probe in one step: containerd and a later sweep see all of it or nothing.
 *
 * @throws what `node:fs` throws, such as EACCES or EROFS; it then leaves nothing behind
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
 * Removes what a probe left behind: its image with all names that CRI gave it, its content, and last its hosts.toml, so that a
 * later sweep can finish a killed removal. If a pull was cut off, containerd's garbage collection removes the some 3 KiB that it
 * wrote, within a day.
 *
 * @param content the digests of the content, as far as they are known
 * @throws when containerd does not answer, or the signal's reason; something may then remain
 */
export async function removeProbe(
  { client, cri, certsDir }: ProbePlaces,
  { registry, content }: { readonly registry: string; readonly content: readonly Digest[] },
  signal: AbortSignal,
): Promise<void> {
  const images = await client.images(signal)
  const named = images.filter(({ name }) => probeOfName(name) === registry)
  // Only the probe has this content, so whatever points to it is the probe's; `sha256:<config>` names no registry.
  const targets = new Set([...content, ...named.map(({ target }) => target.digest)])
  const others = images.filter((image) => targets.has(image.target.digest) && !named.includes(image))
  const [first] = named
  // CRI keeps its own list of all names. Where CRI does not run, there is no such list.
  if (first !== undefined) await unless('unsupported', cri.removeImage(first.name, signal))
  for (const { name } of [...others, ...named]) await client.deleteImage(name, signal)
  // The garbage collection might leave it there until something else changes: containerd 1.7 forgets what was removed while a
  // collection was deleting files (its scheduler skips everything older than the end of that collection).
  for (const digest of content) await client.deleteContent(digest, signal)
  for (const name of [registry, `.${registry}`]) await removeHosts(join(certsDir, name))
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
    await bounded(REMOVE_TIMEOUT, signal, (bound) => removeProbe(places, { registry, content: [] }, bound))
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

/** Removes the directory of a hosts.toml, unless somebody put something else there. */
async function removeHosts(directory: string): Promise<void> {
  // Looks first, because a read-only file system even refuses to remove what does not exist.
  if ((await unlessMissing(lstat(directory))) === undefined) return
  await unlessMissing(unlink(join(directory, HOSTS_FILE)))
  await unlessMissing(rmdir(directory))
}
