import { type Finding, findingsOf, type Remedy, type Rule, rule, shellWord } from '../rule.ts'
import { isUrl } from './endpoint.ts'
import type { HostsReader } from './files.ts'
import { DEFAULT_NAMESPACE, type HostsView, isWithoutMirror, ownViews, viewOf } from './look.ts'
import { type HostsCheck, hasCapabilities, hostsCommand, isRight } from './mirror-entry.ts'
import type { HostEntry } from './reading.ts'

/**
 * Judges whether containerd asks the mirror first for every mirrored registry, by the hosts.toml that counts for it, read like this
 * version of containerd. Without a list of registries it judges `_default`, and every directory that takes a registry away
 * from it.
 */
export async function checkHosts(check: HostsCheck, files: HostsReader): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const registry of check.registries ?? [DEFAULT_NAMESPACE]) {
    findings.push(...findingsOf(FILE_RULES, await viewOf(registry, check, files)))
  }
  if (check.registries !== undefined) return findings
  const own = await ownViews(check, files)
  const without = own.filter(isWithoutMirror)
  for (const view of own.filter((view) => !without.includes(view))) {
    for (const finding of findingsOf(FILE_RULES, view)) {
      // A file that others broke is theirs, and the mirror works for all other registries.
      findings.push(finding.severity === 'error' ? { ...finding, severity: 'warning' } : finding)
    }
  }
  return [...findings, ...DEFAULT_SHADOWED.judge({ check, without })]
}

/** A file that containerd reads and that leads to the mirror. */
type OwnView = Extract<HostsView, { kind: 'hosts' }> & { readonly own: HostEntry }

function ownView(view: HostsView): OwnView | undefined {
  return view.kind === 'hosts' && view.own !== undefined ? { ...view, own: view.own } : undefined
}

function rewrite({ registry, check }: HostsView): Remedy & { readonly command: string } {
  const registries = registry === DEFAULT_NAMESPACE ? undefined : [registry]
  return { text: 'let swarmirror write it', command: hostsCommand({ registries }, check) }
}

/** containerd uses nothing of what is there, so nothing is lost. */
function moveAway(view: HostsView, alternative = ''): Remedy {
  const text = `move it away${alternative}; then let swarmirror write its entry`
  return { text, command: `mv ${shellWord(view.file)} ${shellWord(`${view.file}.broken`)} && ${rewrite(view).command}` }
}

/** The rules on the hosts.toml that counts for a registry. */
const FILE_RULES: readonly Rule<HostsView>[] = [
  rule({
    id: 'hosts-toml-missing',
    reads: (view: HostsView) => (view.kind === 'absent' ? view : undefined),
    judges: ({ file }) => ({ severity: 'error', seen: `${file} is not there` }),
    expected: 'a hosts.toml that names the mirror first',
    why: 'containerd asks the registry itself, and the mirror never hears of it',
    remedy: (view) => rewrite(view),
  }),
  rule({
    id: 'hosts-toml-unreadable',
    reads: (view: HostsView) => (view.kind === 'unreadable' ? view : undefined),
    judges: ({ reason }) => ({ severity: 'unknown', seen: reason }),
    expected: 'every hosts.toml can be read',
    why: 'whether containerd asks the mirror cannot be seen from here',
  }),
  rule({
    id: 'hosts-toml-no-file',
    // Usually a directory: container engines make one if a file that they should mount is missing.
    reads: (view: HostsView) => (view.kind === 'no file' ? view : undefined),
    judges: ({ file }) => ({ severity: 'error', seen: `${file} is not a file` }),
    expected: 'a file that names the mirror first',
    why: 'containerd cannot read it, and fails every pull that it would count for',
    remedy: (view) => moveAway(view),
  }),
  rule({
    id: 'hosts-toml-discarded',
    reads: (view: HostsView) => (view.kind === 'discarded' ? view : undefined),
    judges({ file, reason, line, column }) {
      const place = column === 0 ? `line ${line}` : `line ${line}, column ${column}`
      return { severity: 'error', seen: `${file}, ${place}: ${reason}` }
    },
    expected: 'a hosts.toml that containerd reads',
    why: 'containerd ignores the whole file, says so only in its log, and asks the registry itself',
    remedy: (view) =>
      view.reason.startsWith('no [host] table') ? rewrite(view) : moveAway(view, `, or correct line ${view.line}`),
  }),
  rule({
    id: 'hosts-toml-without-mirror',
    reads: (view: HostsView) => (isWithoutMirror(view) ? view : undefined),
    judges(view) {
      const { file, check } = view
      if (view.kind !== 'hosts') return { severity: 'error', seen: `${file} is not there, or empty` }
      const named = view.hosts.find(({ name }) => isUrl(name, check.mirror.url))
      const elsewhere = `line ${named?.line}: ${named?.name} with override_path, so that containerd asks it without /v2`
      const seen = named === undefined ? `${file} does not name ${check.mirror.url}` : `${file}, ${elsewhere}`
      return { severity: 'error', seen }
    },
    expected: 'the mirror as the first host',
    why: 'containerd does not ask the mirror',
    remedy: rewrite,
  }),
  rule({
    id: 'hosts-toml-order',
    reads: (view: HostsView) => ownView(view),
    judges({ file, own, hosts }) {
      const before = hosts.slice(0, hosts.indexOf(own)).map(({ name, line }) => `${name} (line ${line})`)
      if (before.length === 0) return []
      return { severity: 'error', seen: `${file} names ${before.join(', ')} before ${own.name} (line ${own.line})` }
    },
    expected: 'the mirror as the first host',
    why: 'containerd asks in the order of the file, so it asks the mirror only for what the hosts before it do not have',
    remedy: (view) => rewrite(view),
  }),
  rule({
    id: 'hosts-toml-capabilities',
    reads: (view: HostsView) => ownView(view),
    judges({ file, own, check: { mirror } }) {
      if (hasCapabilities(own, mirror)) return []
      const lacksResolve = mirror.capabilities.includes('resolve') && !own.capabilities.includes('resolve')
      return {
        severity: 'warning',
        seen: `${file}, line ${own.line}: capabilities ${own.capabilities.join(', ')}`,
        expected: `capabilities ${mirror.capabilities.join(', ')}`,
        why: lacksResolve ? 'without resolve containerd asks upstream what each tag means' : undefined,
      }
    },
    expected: 'the capabilities that the mirror has',
    why: 'containerd asks the mirror for what it does not do, and gets a 404 or 405: a wasted request each time',
    remedy: (view) => rewrite(view),
  }),
  rule({
    id: 'hosts-toml',
    reads: (view: HostsView) => ownView(view),
    judges(view) {
      const { file, own, hosts, check } = view
      const right = hosts[0] === own && isRight(own, check.mirror)
      return right ? { severity: 'ok', seen: `${file} names ${own.name} first` } : []
    },
    expected: 'the mirror as the first host, for what it serves',
    why: 'containerd asks in the order of the file',
  }),
]

/** Registries with their own directory for which containerd does not ask the mirror. */
const DEFAULT_SHADOWED = rule({
  id: 'hosts-default-shadowed',
  reads: (found: { readonly check: HostsCheck; readonly without: readonly HostsView[] }) =>
    found.without.length === 0 ? undefined : found,
  judges: ({ without }) => ({
    severity: 'warning',
    seen: `the mirror is not named in ${without.map(({ directory }) => directory).join(', ')}`,
  }),
  expected: 'the mirror in the hosts.toml of each registry that has a directory of its own',
  why: `containerd looks into ${DEFAULT_NAMESPACE} only for registries without a directory, so these are not mirrored`,
  remedy: ({ check, without }) => ({
    text: 'let swarmirror write it',
    command: hostsCommand({ also: without.map(({ registry }) => registry) }, check),
  }),
})
