import { basename, dirname, join } from 'node:path'
import { dialectOf } from '../dialect.ts'
import type { Finding } from '../finding.ts'
import { shellWord } from '../shell.ts'
import { certificateFindings } from './certificates.ts'
import { asksAt, isUrl } from './endpoint.ts'
import { type HostsReader, isRefusal } from './files.ts'
import { DEFAULT_NAMESPACE, directoriesFor, HOSTS_FILE, lookAt, ownDirectories, registryOfDirectory } from './look.ts'
import { hostsCommand, type MirrorEntry } from './mirror-entry.ts'
import { type HostEntry, type HostMention, type HostsReading, readHosts } from './reading.ts'

export interface HostsCheck {
  /** The directory as this process sees it. */
  readonly certsDir: string
  /** The registries that are mirrored; all if missing. */
  readonly registries: readonly string[] | undefined
  readonly mirror: MirrorEntry
  /** As containerd tells it, if it could be asked. */
  readonly version: string | undefined
  /** Where containerd tells its version. */
  readonly socket: string
  /** What starts this program, in a shell. */
  readonly program: string
  /** Whether this process sees all files as containerd does, and not only those in the directory. */
  readonly seesAll?: boolean
}

/** What was found in one directory. */
export type Looked =
  | { readonly kind: 'absent' }
  /** `inItself`: not only for this process, so that containerd cannot read it either. */
  | { readonly kind: 'unreadable'; readonly reason: string; readonly inItself: boolean }
  | Exclude<HostsReading, { kind: 'hosts' }>
  | (Extract<HostsReading, { kind: 'hosts' }> & { readonly text: string })

/** Looks at the hosts.toml of a directory, as containerd of that version reads it. */
async function look(directory: string, version: string | undefined, files: HostsReader): Promise<Looked> {
  try {
    const { exists, text = '' } = await lookAt(directory, files)
    if (!exists) return { kind: 'absent' }
    const reading = readHosts(text, dialectOf(version))
    return reading.kind === 'hosts' ? { ...reading, text } : reading
  } catch (error) {
    if (!isRefusal(error)) throw error
    return { kind: 'unreadable', reason: error.message, inItself: error.code === 'EINVAL' }
  }
}

/** Whether containerd asks the mirror, in whatever order. */
function asksMirror(looked: Looked, mirror: MirrorEntry): boolean {
  return looked.kind === 'hosts' && looked.hosts.some((host) => leadsTo(host, mirror.url))
}

/** Whether containerd comes to the URL by a host of a file, be it by the other name of loopback. */
function leadsTo(host: Pick<HostEntry, 'url'>, url: string): boolean {
  const named = url.replace(/\/\/(127\.0\.0\.1|localhost):/, (_, name) => `//${OTHER_NAME[name]}:`)
  return asksAt(host, url) || asksAt(host, named)
}

const OTHER_NAME: Readonly<Record<string, string>> = { '127.0.0.1': 'localhost', localhost: '127.0.0.1' }

/** The registries with a directory of their own for which containerd does not ask the mirror at all. */
export async function registriesWithoutMirror(
  check: Pick<HostsCheck, 'certsDir' | 'mirror' | 'version'>,
  files: HostsReader,
): Promise<string[]> {
  const without: string[] = []
  for (const name of await ownDirectories(check.certsDir, files)) {
    if (isWithout(await look(join(check.certsDir, name), check.version, files), check.mirror)) {
      without.push(registryOfDirectory(name))
    }
  }
  return without
}

function isWithout(looked: Looked, mirror: MirrorEntry): boolean {
  return looked.kind === 'empty' || (looked.kind === 'hosts' && !asksMirror(looked, mirror))
}

/** What makes swarmirror write its entry as it should be. */
function rewrite(registry: string, check: HostsCheck) {
  const registries = registry === DEFAULT_NAMESPACE ? undefined : [registry]
  return { text: 'let swarmirror write it', command: hostsCommand({ registries }, check) }
}

/**
 * containerd takes nothing from what stands there, so nothing is lost.
 *
 * @param place what could be corrected as well
 */
function movedAway(path: string, place: string | undefined, command: string) {
  const corrected = place === undefined ? '' : `, or correct ${place}`
  const text = `move it away${corrected}; then let swarmirror write its entry`
  return { text, command: `mv ${shellWord(path)} ${shellWord(`${path}.broken`)} && ${command}` }
}

/**
 * Looks whether containerd asks the mirror first, for every registry that is mirrored: by the hosts.toml that counts for
 * it, as containerd of this version reads it. Without a list of registries that is `_default`, and every directory that
 * takes a registry away from it.
 */
export async function checkHosts(check: HostsCheck, files: HostsReader): Promise<Finding[]> {
  const registries = check.registries ?? [DEFAULT_NAMESPACE]
  const findings: Finding[] = []
  for (const registry of registries) findings.push(...(await checkRegistry(registry, check, files)))
  if (check.registries !== undefined) return findings
  try {
    findings.push(...(await checkOwnDirectories(check, files)))
  } catch (error) {
    if (!isRefusal(error)) throw error
    findings.push(unreadable(check.certsDir, error.message))
  }
  return findings
}

function unreadable(path: string, reason: string): Finding {
  return {
    id: 'hosts-toml-unreadable',
    severity: 'unknown',
    seen: reason,
    expected: `${path} readable`,
    why: 'whether containerd asks the mirror cannot be seen from here',
  }
}

async function checkRegistry(registry: string, check: HostsCheck, files: HostsReader): Promise<Finding[]> {
  const found: { directory: string; looked: Looked }[] = []
  for (const directory of directoriesFor(registry, check.certsDir)) {
    const looked = await look(directory, check.version, files)
    if (looked.kind !== 'absent') found.push({ directory, looked })
  }
  const [first, ...shadowed] = found
  if (first === undefined) {
    return [
      {
        id: 'hosts-toml-missing',
        severity: 'error',
        seen: `${join(check.certsDir, registry, HOSTS_FILE)} is not there`,
        expected: `a ${HOSTS_FILE} for ${registry} that names ${check.mirror.url} first`,
        why: 'containerd asks the registry itself, and the mirror never hears of it',
        remedy: rewrite(registry, check),
      },
    ]
  }
  const findings = [
    ...judge(registry, first.directory, first.looked, check),
    ...(await certificateFindings(first.directory, first.looked, check, files)),
  ]
  for (const { directory, looked } of shadowed) {
    const ours = looked.kind !== 'hosts' || asksMirror(looked, check.mirror)
    // A link from one name to the other is one directory.
    if (basename(directory) === DEFAULT_NAMESPACE || !ours || (await isSame(directory, first.directory, files)))
      continue
    findings.push({
      id: 'hosts-toml-shadowed',
      severity: 'warning',
      seen: `${directory} and ${first.directory} are both there`,
      expected: `one directory for ${registry}`,
      why: `containerd takes ${first.directory} alone and never looks into ${directory}`,
      remedy: {
        text: `take over what shall count into ${first.directory}; the other one is put aside`,
        command: `mv ${shellWord(directory)} ${shellWord(join(check.certsDir, `.${basename(directory)}`))}`,
      },
    })
  }
  return findings
}

/** Whether two names lead to one directory. */
async function isSame(one: string, other: string, files: HostsReader): Promise<boolean> {
  try {
    return (await files.real(one)) === (await files.real(other))
  } catch (error) {
    if (!isRefusal(error)) throw error
    return false
  }
}

/** What one hosts.toml, the one that counts, says of the mirror. */
function judge(registry: string, directory: string, looked: Looked, check: HostsCheck): Finding[] {
  const path = join(directory, HOSTS_FILE)
  const { mirror } = check
  const expected = `${mirror.url} as the first host, for ${mirror.capabilities.join(' and ')}`
  const remedy = rewrite(registry, check)
  if (looked.kind === 'unreadable') return [looked.inItself ? noFile(path, check) : unreadable(path, looked.reason)]
  if (looked.kind === 'discarded') return [discarded(path, looked, check)]
  if (looked.kind !== 'hosts' || !asksMirror(looked, mirror)) {
    const ignored = looked.kind === 'hosts' ? looked.ignored.find(({ name }) => isUrl(name, mirror.url)) : undefined
    if (ignored !== undefined) return [ignoredHost(path, ignored, check)]
    const seen = looked.kind === 'hosts' ? withoutMirror(path, looked.hosts, mirror) : `${path} is not there, or empty`
    const why = 'containerd does not ask the mirror'
    return [{ id: 'hosts-toml-without-mirror', severity: 'error', seen, expected, why, remedy }]
  }
  const at = looked.hosts.findIndex((host) => leadsTo(host, mirror.url))
  const own = looked.hosts[at]
  const findings: Finding[] = []
  if (own !== undefined && !asksAt(own, mirror.url)) {
    findings.push({
      id: 'hosts-toml-localhost',
      severity: 'warning',
      seen: `${path}, line ${own.line}: the mirror as ${own.name}`,
      expected,
      why: 'localhost may be ::1 as well, where something else may listen',
      remedy,
    })
  }
  if (at > 0) {
    const before = looked.hosts.slice(0, at).map(({ name, line }) => `${name} (line ${line})`)
    findings.push({
      id: 'hosts-toml-order',
      severity: 'error',
      seen: `${path} names ${before.join(', ')} before ${mirror.url} (line ${own?.line})`,
      expected,
      why: 'containerd asks in the order of the file, so the mirror gets only what those before it do not have',
      remedy,
    })
  }
  const missing = mirror.capabilities.filter((capability) => !own?.capabilities.includes(capability))
  const extra = own?.capabilities.filter(
    (capability) => !(mirror.capabilities as readonly string[]).includes(capability),
  )
  if (missing.length > 0 || (extra ?? []).length > 0) {
    findings.push({
      id: 'hosts-toml-capabilities',
      severity: 'warning',
      seen: `${path}, line ${own?.line}: capabilities ${own?.capabilities.join(', ')}`,
      expected: `capabilities ${mirror.capabilities.join(', ')}`,
      why: missing.includes('resolve')
        ? 'without resolve containerd asks upstream what each tag means'
        : 'containerd asks the mirror for what it does not do; it answers 404 or 405, which costs a request each time',
      remedy,
    })
  }
  for (const host of looked.ignored) findings.push(ignoredHost(path, host, check))
  if (findings.length > 0) return findings
  return [{ id: 'hosts-toml', severity: 'ok', seen: `${path} names ${mirror.url} first`, expected, why: '' }]
}

function withoutMirror(path: string, hosts: readonly HostEntry[], { url }: MirrorEntry): string {
  const named = hosts.find(({ name }) => isUrl(name, url))
  if (named === undefined) return `${path} does not name ${url}`
  return `${path}, line ${named.line}: ${named.name} with override_path, so that containerd asks it without /v2`
}

/** A directory, most often: container engines make one where a file that is to be mounted is missing. */
function noFile(path: string, check: HostsCheck): Finding {
  const { command } = rewrite(registryOfDirectory(basename(dirname(path))), check)
  return {
    id: 'hosts-toml-no-file',
    severity: 'error',
    seen: `${path} is no file`,
    expected: `a file that names ${check.mirror.url} first`,
    why: 'containerd cannot read it, and fails every pull that it would count for',
    remedy: movedAway(path, undefined, command),
  }
}

function discarded(path: string, looked: HostsReading & { kind: 'discarded' }, check: HostsCheck): Finding {
  const place = looked.column === undefined ? `line ${looked.line}` : `line ${looked.line}, column ${looked.column}`
  const hostless = looked.reason.startsWith('no [host] table')
  const rewritten = rewrite(registryOfDirectory(basename(dirname(path))), check)
  return {
    id: 'hosts-toml-discarded',
    severity: 'error',
    seen: `${path}, ${place}: ${looked.reason}`,
    expected: `a ${HOSTS_FILE} that containerd ${check.version ?? 'of every version'} reads`,
    why: 'containerd discards the whole file, says so in its log only, and asks the registry itself',
    remedy: hostless ? rewritten : movedAway(path, place, rewritten.command),
  }
}

function ignoredHost(path: string, mention: HostMention, check: HostsCheck): Finding {
  const { name, line, lastLine } = mention
  const ours = isUrl(name, check.mirror.url)
  const header = `[host.${JSON.stringify(name)}]`
  return {
    id: 'hosts-toml-ignored-host',
    severity: ours ? 'error' : 'warning',
    seen: `${path}, line ${line}: host ${name} as a dotted key or an inline table`,
    expected: `a table with the header ${header}`,
    why: 'containerd 2.x sees hosts in headers only, and ignores others without a word',
    remedy: ours
      ? {
          text: 'take it out, and let swarmirror write it',
          file: path,
          edits: [{ kind: 'replace', from: line, to: lastLine, lines: [] }],
          command: rewrite(registryOfDirectory(basename(dirname(path))), check).command,
        }
      : { text: `write what line ${line} says of the host below a header of its own`, file: path, lines: [header] },
  }
}

/** Registries with a directory of their own, for which `_default` does not count. */
async function checkOwnDirectories(check: HostsCheck, files: HostsReader): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const name of await ownDirectories(check.certsDir, files)) {
    const directory = join(check.certsDir, name)
    const looked = await look(directory, check.version, files)
    if (isWithout(looked, check.mirror)) continue
    const judged = [
      ...judge(registryOfDirectory(basename(directory)), directory, looked, check),
      ...(await certificateFindings(directory, looked, check, files)),
    ]
    // A file that others broke is theirs, and the mirror works for all the rest.
    const milder = (finding: Finding) =>
      finding.severity === 'error' ? { ...finding, severity: 'warning' as const } : finding
    findings.push(...judged.map(milder))
  }
  const without = await registriesWithoutMirror(check, files)
  if (without.length === 0) return findings
  findings.push({
    id: 'hosts-default-shadowed',
    severity: 'warning',
    seen: `${without.join(', ')}: with directories of their own, and without the mirror`,
    expected: `${check.mirror.url} in the ${HOSTS_FILE} of each registry that has a directory of its own`,
    why: `containerd looks into ${DEFAULT_NAMESPACE} only for registries without a directory, so these are not mirrored`,
    remedy: { text: 'let swarmirror write it', command: hostsCommand({ also: without }, check) },
  })
  return findings
}
