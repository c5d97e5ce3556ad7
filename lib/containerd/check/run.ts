import type { Logger } from '../../observe/log.ts'
import { type Address, hostOf, type Settings } from '../../settings/settings.ts'
import type { Containerd } from '../client/client.ts'
import { CRI_NAMESPACE } from '../client/cri.ts'
import { ContainerdError, isLasting } from '../client/error.ts'
import { checkHosts } from '../hosts/check.ts'
import { leadsTo } from '../hosts/endpoint.ts'
import { HOSTS_FILES, type HostsReader, type Looked, rememberingReader } from '../hosts/files.ts'
import { DEFAULT_NAMESPACE, viewOf } from '../hosts/look.ts'
import { type HostsCheck, hostsCommand, mirrorEntryFor, mirrorUrlFor } from '../hosts/mirror-entry.ts'
import { type Fact, type Finding, findingsOf, isUnreadable } from '../rule.ts'
import { CONFIG_RULES } from './config-rules.ts'
import { type ConfigSnapshot, type ConfigView, lookAtConfig, lookAtProcess } from './config-view.ts'
import { countImages, lookAtCertsDirectory, lookAtContent, MACHINE_RULES, type MachineView } from './machine.ts'
import { type ProbeEvidence, runProbe } from './probe.ts'
import type { ProbeDoor } from './probe-door.ts'
import { PROBE_RULES } from './probe-rules.ts'
import { type ProbePlaces, sweepProbes } from './probe-traces.ts'
import { makeReport, type Report } from './report.ts'
import { mirrorsInPlace, mirrorsLeadHere } from './setting-rules.ts'

/** The settings of the mirror, and with `listen` the address of the registry door for containerd. */
export interface CheckSubject extends Settings, Pick<HostsCheck, 'program'> {}

export interface CheckDependencies {
  readonly containerd: Pick<Containerd, 'in' | 'cri'>
  /** What serves a probe, or the reason why there should be none. */
  readonly probe: ProbeService | string
  /** Further findings about this node, besides containerd. */
  readonly others: (signal: AbortSignal) => Promise<readonly Finding[]>
  readonly log: Logger
}

/** A door that serves probes. */
export interface ProbeService {
  readonly door: ProbeDoor
  /** Opens the door, at the registry door's own address if wanted and free. Returns the address at which containerd reaches it. */
  open(registryDoor: boolean): Promise<{ readonly host: string; readonly port: number }>
}

export interface CheckResult {
  readonly report: Report
  /** The files and directories that the result depends on, as they were before the check. */
  readonly looked: Looked
  /** Whether containerd went away during the check, which should then run again. */
  readonly interrupted: boolean
}

type Snapshot = MachineView & ConfigSnapshot

/**
 * Checks everything: whether containerd answers, what it says about itself, its files, hosts.toml, this machine, and with a probe
 * whether it really asks the mirror. Takes a few seconds, plus at most the time of the probe.
 *
 * @throws the signal's reason
 */
export async function runCheck(
  dependencies: CheckDependencies,
  subject: CheckSubject,
  signal: AbortSignal,
): Promise<CheckResult> {
  const { reader, looked } = rememberingReader(HOSTS_FILES)
  const { snapshot, hosts, interrupted } = await look(dependencies, subject, reader, signal)
  const findings = [
    ...findingsOf<Snapshot>([...MACHINE_RULES, ...CONFIG_RULES], snapshot),
    ...hosts,
    ...(await dependencies.others(signal)),
    ...findingsOf<Snapshot>(PROBE_RULES, snapshot),
  ]
  return { report: makeReport(findings), looked, interrupted }
}

async function look(
  dependencies: CheckDependencies,
  subject: CheckSubject,
  files: HostsReader,
  signal: AbortSignal,
): Promise<{ snapshot: Snapshot; hosts: readonly Finding[]; interrupted: boolean }> {
  const { containerd } = dependencies
  const { 'containerd-namespace': namespace, 'containerd-config': configFile, 'certs-dir': certsDir } = subject
  const { listen, program } = subject
  const client = containerd.in(namespace)
  const answer = await client.version(signal).catch((error: unknown) => {
    if (error instanceof ContainerdError) return error
    throw error
  })
  const refusal = answer instanceof ContainerdError ? answer : undefined
  const version = answer instanceof ContainerdError ? { unreadable: answer.message } : answer.version
  // containerd may have been there a moment ago, and may come back.
  let interrupted = refusal !== undefined && !isLasting(refusal)
  /** Asks a containerd that answers. If it goes away meanwhile, this part remains unknown. */
  const asked = async <T>(ask: () => Promise<T>): Promise<Fact<T> | undefined> => {
    if (refusal !== undefined) return undefined
    try {
      return await ask()
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof ContainerdError)) throw error
      interrupted = true
      return { unreadable: `containerd stopped answering: ${error.message}` }
    }
  }
  // Probes end up in the namespace of CRI, whichever namespace is mirrored.
  const places = { client: containerd.in(CRI_NAMESPACE), cri: containerd.cri, certsDir }
  if (refusal === undefined) await sweep(places, subject, dependencies.log, signal)
  const told = isUnreadable(version) ? undefined : version
  const registries = subject.registries && [...subject.registries]
  const mirror = mirrorEntryFor(listen, subject.resolve)
  const hostsCheck = { certsDir, registries, mirror, version: told, program }
  const images = await asked(() => countImages(containerd, namespace, signal))
  const process = await asked(async () => lookAtProcess((await client.server(signal)).pid, configFile))
  const registryDoor = `${hostOf(listen.host)}:${listen.port}`
  const config =
    process === undefined || isUnreadable(process)
      ? await lookAtConfig(version, { ...files, path: configFile }, { certsDir, registryDoor }, HOSTS_FILES)
      : undefined
  const byMirrors = config !== undefined && mirrorsInPlace(config)
  const hosts = byMirrors ? [] : await checkHosts(hostsCheck, files)
  const probed = await asked(() => probe(dependencies, { places, listen, hosts: hostsCheck, files, config }, signal))
  const snapshot: Snapshot = {
    socket: { path: subject['containerd-socket'], refusal },
    version,
    images,
    certsDir: await lookAtCertsDirectory(certsDir, hostsCommand({ registries }, hostsCheck)),
    // After the probe, because a containerd that has never pulled has no directory for content yet.
    content: await asked(() => lookAtContent(client, subject['containerd-content'], signal)),
    process,
    config,
    probe: probed ?? { unreadable: 'containerd does not answer' },
  }
  return { snapshot, hosts, interrupted }
}

async function sweep(places: ProbePlaces, { listen }: CheckSubject, log: Logger, signal: AbortSignal): Promise<void> {
  try {
    await sweepProbes(places, { hosts: [hostOf(listen.host)], log }, signal)
  } catch (error) {
    signal.throwIfAborted()
    log.warn('could not look for remains of killed probes', { error })
  }
}

async function probe(
  { probe, log }: CheckDependencies,
  node: { places: ProbePlaces; listen: Address; hosts: HostsCheck; files: HostsReader; config: ConfigView | undefined },
  signal: AbortSignal,
): Promise<ProbeEvidence> {
  const { places, listen, hosts, files, config } = node
  if (typeof probe === 'string') return { unreadable: probe }
  const byMirrors = config !== undefined && mirrorsLeadHere(config)
  // A probe's own hosts.toml can lead to any address. registry.mirrors and existing hosts.toml files lead only to the registry door,
  // whose address must otherwise stay free for a starting mirror. A mirror that runs there forwards the pull to this process.
  const address = await probe.open(byMirrors || (await HOSTS_FILES.unwritable(places.certsDir)) !== undefined)
  if (byMirrors && address.port !== listen.port) {
    return { unreadable: 'registry.mirrors leads to the mirror that runs here, not to this process' }
  }
  const defaultPointsHere = async () => {
    const view = await viewOf(DEFAULT_NAMESPACE, hosts, files)
    const first = view.kind === 'hosts' ? view.hosts[0] : undefined
    if (first === undefined) return `${view.file} names no host`
    const { url } = hosts.mirror
    const isHere = leadsTo(first, url) || leadsTo(first, mirrorUrlFor(address))
    return isHere || `${view.file} names ${first.name} first, not ${url}`
  }
  return await runProbe({ ...places, door: probe.door, defaultPointsHere, log }, { address }, signal)
}
