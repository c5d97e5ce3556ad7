import { posix } from 'node:path'
import type { Dialect } from '../dialect.ts'
import type { Finding } from '../finding.ts'
import type { EffectiveSettings } from './config/effective.ts'
import { type ConfigProblem, type ConfigValue, isTable, type Sourced } from './config/load.ts'

/** What the mirror needs of containerd. */
export interface Expectation {
  /** Directory of the hosts.toml files, as containerd sees it. */
  readonly certsDir: string
  /** containerd namespace whose images are mirrored. */
  readonly namespace: string
  /** Host and port of the registry door, as containerd reaches it. */
  readonly registryDoor: string
}

/** What a rule has found, before it is known what to do about it. */
export type Verdict = Pick<Finding, 'severity' | 'seen'> & {
  /** Why, where it is not the rule's usual reason. */
  readonly why?: string | undefined
}

/** A value in words, with where it comes from. */
export interface Told {
  readonly value: ConfigValue
  readonly where: string
}

/** `/etc/containerd/config.toml line 12`, or the default of the version. */
export function whereOf(source: Sourced | undefined): string {
  return source === undefined ? "this version's default" : `${source.file} line ${source.line}`
}

/**
 * registry.config_path: has the directory of the hosts.toml files, and is one path where the version takes it for one.
 *
 * @param pulling what decides whether pulls go through the transfer service
 */
export function judgeConfigPath(
  { value, where }: Told,
  { certsDir, registryDoor }: Expectation,
  dialect: Dialect,
  pulling: Pick<EffectiveSettings, 'localPull' | 'localPullBecause' | 'mirrors'>,
): Verdict {
  const seen = `config_path is ${JSON.stringify(value)} (${where})`
  if (typeof value !== 'string') return { severity: 'error', seen: `config_path is not a text (${where})` }
  if (value === '') {
    if (asksFirst(pulling.mirrors, registryDoor)) {
      return { severity: 'ok', seen: `registry.mirrors asks ${registryDoor} first (${whereOf(pulling.mirrors)})` }
    }
    return { severity: 'error', seen: `config_path is not set (${where})` }
  }
  if (samePath(value, certsDir)) return { severity: 'ok', seen }
  const paths = value.split(':').filter((path) => path !== '')
  const at = paths.findIndex((path) => samePath(path, certsDir))
  if (at === -1) return { severity: 'error', seen: `${seen}, without ${certsDir}` }
  if (paths.length === 1) return { severity: 'ok', seen }
  if (!dialect.splitsConfigPath && !pulling.localPull) {
    if (pulling.localPullBecause === undefined) {
      const why = 'pulls through the transfer service take a list for one path, so hosts.toml is silently ignored'
      return { severity: 'error', seen: `${seen}: a list`, why }
    }
    const why = `a list is only split because ${pulling.localPullBecause} makes containerd pull by itself`
    return { severity: 'warning', seen: `${seen}: a list`, why }
  }
  if (at > 0) {
    const why = 'a directory before it that has files for a registry, or for _default, hides ours'
    return { severity: 'warning', seen: `${seen}: not the first of the list`, why }
  }
  return { severity: 'ok', seen }
}

/** Whether the old table sends pulls from every registry to our door first, as distributions without hosts.toml do it. */
function asksFirst(mirrors: Sourced | undefined, registryDoor: string): boolean {
  const all = isTable(mirrors?.value) ? mirrors.value.get('*')?.value : undefined
  const endpoints = isTable(all) ? all.get('endpoint')?.value : undefined
  const first = Array.isArray(endpoints) ? (endpoints as readonly Sourced[])[0]?.value : undefined
  return first === `http://${registryDoor}` || first === `http://${registryDoor}/`
}

/** discard_unpacked_layers: off. */
export function judgeDiscard({ value, where }: Told): Verdict {
  const seen = `discard_unpacked_layers is ${String(value)} (${where})`
  if (typeof value !== 'boolean') return { severity: 'error', seen: `discard_unpacked_layers is no boolean (${where})` }
  return { severity: value ? 'error' : 'ok', seen }
}

/** Whether containerd asks the mirror by the old table, without any hosts.toml. */
export function mirrorsInPlace(
  { mirrors, configPath }: Pick<EffectiveSettings, 'mirrors' | 'configPath'>,
  { registryDoor }: Expectation,
): boolean {
  return configPath.value === '' && asksFirst(mirrors, registryDoor)
}

/** Tables of the old kind: containerd does not load CRI with them beside config_path. */
export function judgeLegacy(
  settings: Pick<EffectiveSettings, 'mirrors' | 'configsTls' | 'configPath'>,
  dialect: Dialect,
  expectation: Expectation,
): Verdict {
  const { mirrors, configsTls, configPath } = settings
  const configPathSet = configPath.value !== ''
  if (mirrorsInPlace(settings, expectation)) {
    return { severity: 'ok', seen: `registry.mirrors takes the place of hosts.toml (${whereOf(mirrors)})` }
  }
  if (mirrors !== undefined) {
    const why = configPathSet
      ? 'containerd does not load CRI with both: no pod would start'
      : 'it must go when config_path is set: containerd does not load CRI with both'
    return { severity: 'error', seen: `registry.mirrors is set (${whereOf(mirrors)})`, why }
  }
  if (configsTls !== undefined && configPathSet) {
    const seen = `registry.configs with tls is set (${whereOf(configsTls)})`
    // 1.x refuses both together, later versions leave the table out of account.
    if (dialect.migration !== 'none') return { severity: 'warning', seen, why: 'it is ignored beside config_path' }
    return { severity: 'error', seen, why: 'containerd does not load CRI with both: no pod would start' }
  }
  return { severity: 'ok', seen: 'neither registry.mirrors nor registry.configs with tls' }
}

/** The sharing policy between namespaces: either is fine, and worth knowing. */
export function judgeSharing({ value, where }: Told, { namespace }: Expectation): Verdict {
  if (value === 'isolated') {
    const seen = `content_sharing_policy is isolated (${where}): content is asked for in the namespace ${namespace} only`
    return { severity: 'ok', seen }
  }
  if (value === 'shared') return { severity: 'ok', seen: `content_sharing_policy is shared (${where})` }
  return { severity: 'error', seen: `content_sharing_policy is ${JSON.stringify(value)} (${where})` }
}

/** A file that containerd would refuse, or that could not be looked at. */
export function judgeProblem(problem: ConfigProblem): Verdict {
  const { kind, file, line, column, reason, importedBy } = problem
  const at = line === undefined ? '' : ` line ${line}${column === undefined ? '' : `, column ${column}`}`
  const by = importedBy === undefined ? '' : `, imported by ${importedBy}`
  const seen = `${file}${at}${by}: ${reason}`
  // What we may not read, containerd may; and its main file may be elsewhere, or not be mounted for us.
  const unknown = kind === 'unreadable' || (kind === 'missing' && importedBy === undefined)
  return { severity: unknown ? 'unknown' : 'error', seen }
}

function samePath(a: string, b: string): boolean {
  const plain = (path: string) => posix.normalize(path).replace(/(.)\/$/, '$1')
  return plain(a) === plain(b)
}
