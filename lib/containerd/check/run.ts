import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from '../../observe/log.ts'
import { hostOf } from '../../settings/settings.ts'
import type { ContainerdClient } from '../client/client.ts'
import type { CriClient } from '../client/cri.ts'
import { ContainerdError, isLasting } from '../client/error.ts'
import { dialectOf } from '../dialect.ts'
import type { Finding } from '../finding.ts'
import { checkHosts } from '../hosts/check.ts'
import { asksAt } from '../hosts/endpoint.ts'
import { DEFAULT_NAMESPACE, HOSTS_FILE } from '../hosts/look.ts'
import { hostsCommand, mirrorEntryFor } from '../hosts/mirror-entry.ts'
import { readHosts } from '../hosts/reading.ts'
import { askContainerd } from './ask-containerd.ts'
import { reconcile } from './behaviour.ts'
import { type AskTime, checkClock } from './clock.ts'
import { checkConfig } from './config-check.ts'
import { checkConfigInUse, seesFilesOf } from './config-in-use.ts'
import type { ContainerdFacts } from './containerd-facts.ts'
import { checkContent, checkEnvironment, checkSocket } from './environment.ts'
import { CONFIG_FILES, createLookedFiles, type Looked, type LookedFiles } from './looked.ts'
import { type ProbeEvidence, runProbe } from './probe.ts'
import type { ProbeDoor } from './probe-door.ts'
import { probeFindings } from './probe-findings.ts'
import { sweepProbes } from './probe-traces.ts'
import { makeReport, type Report } from './report.ts'

/** Where and how the mirror works, as far as a check depends on it. */
export interface CheckSubject {
  readonly socket: string
  readonly namespace: string
  readonly contentRoot: string | undefined
  readonly configFile: string
  readonly certsDir: string
  /** The registries that are mirrored; all if missing. */
  readonly registries: readonly string[] | undefined
  readonly tags: 'cached' | 'off'
  /** The registry door, as containerd is to be told of it. */
  readonly listen: { readonly host: string; readonly port: number }
  /** What starts this program, in a shell, for the commands that remedies tell. */
  readonly program: string
}

export interface CheckDependencies {
  /** containerd in the namespace that is mirrored. */
  readonly client: ContainerdClient
  /** containerd in the namespace of CRI, where probes land. */
  readonly criStore: ContainerdClient
  readonly cri: CriClient
  readonly imagesIn: (namespace: string, signal: AbortSignal) => Promise<readonly unknown[]>
  /** Other nodes, to compare clocks with. */
  readonly peers: (signal: AbortSignal) => Promise<readonly AskTime[]>
  /** What serves a probe; the reason in words if there is to be none. */
  readonly probe: ProbeService | string
  /** What was looked at already, and belongs in the report. */
  readonly found: readonly Finding[]
  readonly log: Logger
}

/** A door that serves probes. */
export interface ProbeService {
  readonly door: ProbeDoor
  /**
   * Opens it, if it is not open, and tells where containerd reaches it.
   *
   * @param registryDoor whether it should be at the registry door's own address, to which files that are there already lead;
   * it may be elsewhere all the same, if that address is taken
   */
  open(registryDoor: boolean): Promise<{ readonly host: string; readonly port: number }>
}

export interface CheckResult {
  readonly report: Report
  /** The files and directories that it depends on, whether they are there or not, as they were before it. */
  readonly looked: Looked
  /** Whether containerd went away in the middle, so that it should be asked again. */
  readonly interrupted: boolean
}

/**
 * Looks at everything: whether containerd answers, what it says of itself, its files, hosts.toml, this machine, and by a
 * probe whether it really asks the mirror. Takes as long as the probe at most, and a few seconds.
 *
 * @throws the signal's reason
 */
export async function runCheck(
  dependencies: CheckDependencies,
  subject: CheckSubject,
  signal: AbortSignal,
): Promise<CheckResult> {
  const { client, cri } = dependencies
  const files = createLookedFiles()
  let interrupted = false
  /** A part during which containerd goes away is one that could not be looked at. */
  const part = async (id: string, expected: string, look: () => Promise<readonly Finding[]>) => {
    try {
      return await look()
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof ContainerdError)) throw error
      interrupted = true
      const why = 'containerd stopped answering while it was looked at'
      return [{ id, severity: 'unknown' as const, seen: error.message, expected, why }]
    }
  }
  const { finding: socket, error } = await checkSocket(client, subject.socket, signal)
  const answers = error === undefined
  if (answers) await sweep(dependencies, subject, signal)
  // It may have been there a moment ago, and may be again.
  else interrupted = !isLasting(error)
  const facts = answers ? await askContainerd(client, cri, signal) : unreachable(socket.seen)

  const hostsToml = hostsCheck(subject, facts)
  const onMachine = {
    ...subject,
    hostsCommand: hostsCommand(subject, hostsToml),
  }
  const environment = await part('containerd-namespace', 'containerd to answer', async () =>
    answers ? await checkEnvironment(dependencies, facts, onMachine, signal) : [],
  )
  const registryDoor = `${hostOf(subject.listen.host)}:${subject.listen.port}`
  const expectation = { certsDir: subject.certsDir, namespace: subject.namespace, registryDoor }
  // What stands in a file that containerd does not use is not worth a word.
  let seesAll = false
  const inUse = await part('containerd-config-in-use', 'containerd to answer', async () => {
    if (!answers) return []
    const { pid } = await client.server(signal)
    seesAll = await seesFilesOf(pid)
    return await checkConfigInUse(pid, subject.configFile)
  })
  const configFiles = { ...files.config, path: subject.configFile, marks: CONFIG_FILES }
  const { findings: config, mirrorsInPlace: byMirrors } =
    inUse.length > 0 ? { findings: inUse, mirrorsInPlace: false } : await checkConfig(facts, configFiles, expectation)
  const hosts = byMirrors ? [] : await checkHosts({ ...hostsToml, seesAll }, files.hosts)
  const clock = await checkClock(await dependencies.peers(signal), signal)
  const shown = await part('probe-mirror-asked', 'a probe', async () => {
    if (!answers) return probeFindings(notProbed('containerd does not answer'))
    return probeFindings(await probe(dependencies, subject, { facts, files, byMirrors }, signal))
  })
  // After the probe: a containerd that has never pulled anything has no directory for content yet.
  const content = await part('containerd-content', 'containerd to answer', async () =>
    answers ? [await checkContent(client, subject.contentRoot, signal)] : [],
  )
  const read = [socket, ...environment, ...content, ...config, ...hosts, clock, ...dependencies.found]
  const report = makeReport(reconcile(read, shown))
  return { report, looked: files.looked, interrupted }
}

async function sweep(
  { client, criStore, cri, log }: CheckDependencies,
  { certsDir, listen }: CheckSubject,
  signal: AbortSignal,
): Promise<void> {
  try {
    const places = { client: criStore, cri, certsDir }
    await sweepProbes(places, { hosts: [hostOf(listen.host)], log }, signal)
  } catch (error) {
    signal.throwIfAborted()
    log.warn('remains of killed probes could not be looked for', { error, namespace: client.namespace })
  }
}

async function probe(
  dependencies: CheckDependencies,
  { certsDir, listen }: CheckSubject,
  { facts, files, byMirrors }: { facts: ContainerdFacts; files: LookedFiles; byMirrors: boolean },
  signal: AbortSignal,
): Promise<ProbeEvidence> {
  const { probe, criStore, cri, log } = dependencies
  if (typeof probe === 'string') return notProbed(probe)
  // A hosts.toml of its own leads to any address; without one, only the registry door's is known to containerd. It is left
  // alone otherwise: a mirror may be about to start.
  const address = await probe.open(byMirrors || !(await isWritable(certsDir)))
  if (byMirrors && address.port !== listen.port) {
    return notProbed('registry.mirrors leads to the mirror that runs here, and this is another process')
  }
  const defaultPointsHere = async () => {
    const path = join(certsDir, DEFAULT_NAMESPACE, HOSTS_FILE)
    const bytes = await files.hosts.read(path).catch(() => undefined)
    if (bytes === undefined) return `${path} is not there`
    const { version } = facts
    const reading = readHosts(bytes.toString('utf8'), dialectOf('value' in version ? version.value : undefined))
    const first = reading.kind === 'hosts' ? reading.hosts[0] : undefined
    const url = `http://${hostOf(address.host)}:${address.port}`
    if (first === undefined) return `${path} names no host`
    return asksAt(first, url) ? true : `${path} names ${first.name} first, not ${url}`
  }
  const parts = { client: criStore, cri, certsDir, door: probe.door, defaultPointsHere, log }
  return await runProbe(parts, { address }, signal)
}

async function isWritable(directory: string): Promise<boolean> {
  try {
    await access(directory, constants.W_OK | constants.X_OK)
    return true
  } catch {
    // Why is told by the finding on that directory.
    return false
  }
}

function hostsCheck(subject: CheckSubject, { version }: ContainerdFacts) {
  const { certsDir, registries, listen, tags, socket, program } = subject
  const told = 'value' in version ? version.value : undefined
  return { certsDir, registries, mirror: mirrorEntryFor(listen, tags, told), version: told, socket, program }
}

function notProbed(reason: string): ProbeEvidence {
  return { kind: 'impossible', reason }
}

function unreachable(reason: string): ContainerdFacts {
  const unreadable = { unreadable: reason }
  return { version: unreadable, criConfig: unreadable, plugins: unreadable }
}
