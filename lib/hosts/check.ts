import { basename, dirname, join } from 'node:path'
import type { Finding, Remedy } from '../check/finding.ts'
import { isProbeDirectory } from '../check/probe-image.ts'
import { shellWord } from '../check/shell.ts'
import type { MirrorEntry } from './block.ts'
import { DEFAULT_NAMESPACE, directoryNames, HOSTS_FILE, registryOfDirectory } from './directory.ts'
import { isUrl } from './edit.ts'
import { type HostsReader, isRefusal } from './files.ts'
import { type HostMention, type HostsReading, readHosts } from './reading.ts'

export interface HostsCheck {
  /** The directory as this process sees it. */
  readonly certsDir: string
  /** The registries that are mirrored; all if missing. */
  readonly registries: readonly string[] | undefined
  readonly mirror: MirrorEntry
  /** As containerd tells it, if it could be asked. */
  readonly version: string | undefined
  /** What starts this program, in a shell. */
  readonly program: string
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

/** What `hosts` does without flags; tests/hosts holds it against the settings. */
export const SETTINGS_DEFAULT = { certsDir: '/etc/containerd/certs.d', url: 'http://127.0.0.1:5000' } as const

/** What was found in one directory. */
type Looked = { readonly kind: 'absent' } | { readonly kind: 'unreadable'; readonly reason: string } | HostsReading

async function look(directory: string, version: string | undefined, files: HostsReader): Promise<Looked> {
  try {
    const bytes = await files.read(join(directory, HOSTS_FILE))
    if (bytes !== undefined) return readHosts(bytes.toString('utf8'), version)
    return { kind: (await files.real(directory)) === undefined ? 'absent' : 'empty' }
  } catch (error) {
    if (!isRefusal(error)) throw error
    return { kind: 'unreadable', reason: error.message }
  }
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
  for (const name of directoryNames(registry)) {
    const directory = join(check.certsDir, name)
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
  const findings = judge(registry, first.directory, first.looked, check)
  const lost = shadowed.filter(
    ({ directory, looked }) =>
      dirname(directory) === check.certsDir &&
      !directory.endsWith(`/${DEFAULT_NAMESPACE}`) &&
      (looked.kind !== 'hosts' || asksMirror(looked, check.mirror)),
  )
  for (const { directory } of lost) {
    findings.push({
      id: 'hosts-toml-shadowed',
      severity: 'warning',
      seen: `${directory} and ${first.directory} are both there`,
      expected: `one directory for ${registry}`,
      why: `containerd takes ${first.directory} alone and never looks into ${directory}`,
      remedy: { text: `move what shall count to ${first.directory}`, command: `rm -r ${shellWord(directory)}` },
    })
  }
  return findings
}

/** What one hosts.toml, the one that counts, says of the mirror. */
function judge(registry: string, directory: string, looked: Looked, check: HostsCheck): Finding[] {
  const path = join(directory, HOSTS_FILE)
  const { mirror } = check
  const expected = `${mirror.url} as the first host, for ${mirror.capabilities.join(' and ')}`
  const remedy = rewrite(registry, check)
  if (looked.kind === 'unreadable') return [unreadable(path, looked.reason)]
  if (looked.kind === 'discarded') return [discarded(path, looked, check)]
  if (looked.kind !== 'hosts' || !asksMirror(looked, mirror)) {
    const ignored = looked.kind === 'hosts' ? looked.ignored.find(({ name }) => isUrl(name, mirror.url)) : undefined
    if (ignored !== undefined) return [ignoredHost(path, ignored, check)]
    const seen = looked.kind === 'hosts' ? `${path} does not name ${mirror.url}` : `${path} is not there, or empty`
    const why = 'containerd does not ask the mirror'
    return [{ id: 'hosts-toml-without-mirror', severity: 'error', seen, expected, why, remedy }]
  }
  const at = looked.hosts.findIndex(({ name }) => isUrl(name, mirror.url))
  const own = looked.hosts[at]
  const findings: Finding[] = []
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

function asksMirror(looked: Looked, mirror: MirrorEntry): boolean {
  return looked.kind === 'hosts' && looked.hosts.some(({ name }) => isUrl(name, mirror.url))
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

/** containerd takes nothing from such a file, so nothing is lost. */
function movedAway(path: string, place: string, command: string): Remedy {
  const text = `move the file away, or correct ${place}; then let swarmirror write its entry`
  return { text, command: `mv ${shellWord(path)} ${shellWord(`${path}.broken`)} && ${command}` }
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
  for (const directory of await ownDirectories(check.certsDir, files)) {
    const looked = await look(directory, check.version, files)
    if (isWithout(looked, check.mirror)) continue
    const judged = judge(registryOfDirectory(basename(directory)), directory, looked, check)
    // A file that others broke is theirs, and the mirror works for all the rest.
    const milder = (finding: Finding) =>
      finding.severity === 'error' ? { ...finding, severity: 'warning' as const } : finding
    findings.push(...judged.map(milder))
  }
  const without = await directoriesWithoutMirror(check, files)
  if (without.length === 0) return findings
  findings.push({
    id: 'hosts-default-shadowed',
    severity: 'warning',
    seen: `${without.join(', ')}: there, and without the mirror`,
    expected: `${check.mirror.url} in the ${HOSTS_FILE} of each registry that has a directory of its own`,
    why: `containerd looks into ${DEFAULT_NAMESPACE} only for registries without a directory, so these are not mirrored`,
    remedy: rewrite(without.map((directory) => registryOfDirectory(basename(directory))).join(','), check),
  })
  return findings
}

/** The directories of single registries for which containerd does not ask the mirror at all. */
export async function directoriesWithoutMirror(check: HostsCheck, files: HostsReader): Promise<string[]> {
  const without: string[] = []
  for (const directory of await ownDirectories(check.certsDir, files)) {
    if (isWithout(await look(directory, check.version, files), check.mirror)) without.push(directory)
  }
  return without
}

function isWithout(looked: Looked, mirror: MirrorEntry): boolean {
  return looked.kind === 'empty' || (looked.kind === 'hosts' && !asksMirror(looked, mirror))
}

/** The directories of single registries, in the order of their names; not those of probes, which come and go. */
async function ownDirectories(certsDir: string, files: HostsReader): Promise<string[]> {
  const listed = (await files.list(certsDir)) ?? []
  return listed
    .filter(({ name, directory }) => directory && name !== DEFAULT_NAMESPACE && !name.startsWith('.'))
    .filter(({ name }) => !isProbeDirectory(name))
    .map(({ name }) => join(certsDir, name))
    .sort()
}

function rewrite(registries: string, check: HostsCheck): Remedy & { readonly command: string } {
  return { text: 'let swarmirror write it', command: hostsCommand(registries, check) }
}

/** The command that writes the entry as it should be, for a comma list of registries, or for `_default`. */
export function hostsCommand(
  registries: string,
  { certsDir, mirror, program }: Pick<HostsCheck, 'certsDir' | 'mirror' | 'program'>,
): string {
  const { hostname, port } = new URL(mirror.url)
  const flags = [
    ...(registries === DEFAULT_NAMESPACE ? [] : ['--registries', shellWord(registries)]),
    ...(certsDir === SETTINGS_DEFAULT.certsDir ? [] : ['--certs-dir', shellWord(certsDir)]),
    ...(mirror.url === SETTINGS_DEFAULT.url ? [] : ['--listen', `${hostname}:${port || '80'}`]),
    ...(mirror.capabilities.includes('resolve') ? [] : ['--tags', 'off']),
  ]
  return [program, 'hosts', ...flags].join(' ')
}
