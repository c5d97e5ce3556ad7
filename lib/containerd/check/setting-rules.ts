import { posix } from 'node:path'
import { variableOf } from '../../settings/settings.ts'
import { isTable, listOf, type TomlEntry, tableAt } from '../../toml/toml.ts'
import { type Remedy, rule, type Verdict } from '../rule.ts'
import { isMainMissing } from './config/load.ts'
import { IMAGES_PLUGIN, OLD_PLUGIN } from './config/merge.ts'
import { linesFor } from './config/settings.ts'
import { type ConfigSnapshot, type ConfigView, remedyByDistribution, remedyForPaths, restartOf } from './config-view.ts'
import { asksMirror, keepsLayers } from './probe.ts'

/** `/etc/containerd/config.toml line 12`, or the version's default. */
function whereOf(source: TomlEntry | undefined): string {
  return source === undefined ? "this version's default" : `${source.file} line ${source.line}`
}

/** The verdict if a file may set something else than what was read. The probe shows what really happens. */
function unlessAllRead({ problems: [problem] }: ConfigView): Verdict | undefined {
  if (problem === undefined) return undefined
  const seen = `not all of containerd's files can be read: ${problem.file}: ${problem.reason}`
  return { severity: 'unknown', seen }
}

const withFiles = ({ config }: ConfigSnapshot) =>
  config === undefined || config.files.length === 0 ? undefined : config

/** What to do with the lines of a remedy. */
const SET_THESE =
  'set this: change the line that sets it now, or add it to this table, and make the table if it is not there'

/** Whether `registry.mirrors` sends every pull to our door first, as distributions without hosts.toml do. */
export function mirrorsLeadHere({ settings, expectation }: ConfigView): boolean {
  const all = isTable(settings.mirrors?.value) ? tableAt(settings.mirrors.value, '*') : undefined
  const first = listOf(all?.get('endpoint'))?.[0]?.value
  return first === `http://${expectation.registryDoor}` || first === `http://${expectation.registryDoor}/`
}

/** Whether `registry.mirrors` makes containerd ask the mirror, so that no hosts.toml counts. */
export function mirrorsInPlace(view: ConfigView): boolean {
  return view.settings.configPath.value === '' && mirrorsLeadHere(view)
}

/**
 * Judges registry.config_path by the files alone. It must hold the directory of the hosts.toml files, and be a single path if the
 * version reads no list.
 */
export function configPathVerdict(view: ConfigView): Verdict {
  const unread = unlessAllRead(view)
  if (unread !== undefined) return unread
  const { dialect, settings, expectation } = view
  const { certsDir, registryDoor } = expectation
  const { value, source } = settings.configPath
  const where = whereOf(source)
  if (typeof value !== 'string') return { severity: 'error', seen: `config_path is not a string (${where})` }
  if (value === '' && mirrorsLeadHere(view)) {
    return { severity: 'ok', seen: `registry.mirrors asks ${registryDoor} first (${whereOf(settings.mirrors)})` }
  }
  if (value === '') return { severity: 'error', seen: `config_path is not set (${where})` }
  const seen = `config_path is ${JSON.stringify(value)} (${where})`
  if (samePath(value, certsDir)) return { severity: 'ok', seen }
  const paths = value.split(':').filter((path) => path !== '')
  const at = paths.findIndex((path) => samePath(path, certsDir))
  if (at === -1) return { severity: 'error', seen: `${seen}, without ${certsDir}` }
  if (paths.length === 1) return { severity: 'ok', seen }
  if (!dialect.splitsConfigPath && !settings.localPull) {
    const why = 'the transfer service takes a list for a single path, so pulls silently ignore hosts.toml'
    return { severity: 'error', seen: `${seen}: a list`, why }
  }
  if (at === 0) return { severity: 'ok', seen }
  const why = 'a directory before it that has files for a registry, or for _default, hides ours'
  return { severity: 'warning', seen: `${seen}: not the first of the list`, why }
}

function samePath(a: string, b: string): boolean {
  return posix.join(a, '/') === posix.join(b, '/')
}

/** What makes containerd look where the hosts.toml files are. */
function remedyForConfigPath(view: ConfigView): Remedy | undefined {
  const { dialect, settings, reader, problems } = view
  const { certsDir } = view.expectation
  // What could be read is right, and for the rest there is another finding.
  if (settings.configPath.value === certsDir) return undefined
  const byDistribution = remedyByDistribution(view, 'configPath', certsDir)
  const simpler = remedyForPaths(view) ?? remedyByDirectory(view) ?? byDistribution
  if (simpler !== undefined) return simpler
  const command = restartOf(view)
  const change = linesFor('configPath', certsDir, view)
  if (change !== undefined) {
    const also = settings.mirrors === undefined ? '' : `; also, ${WITHOUT_MIRRORS} (${whereOf(settings.mirrors)})`
    return { text: `${SET_THESE}${also}`, ...change, command }
  }
  const [id, version] = dialect.is1x ? [OLD_PLUGIN, 2] : [IMAGES_PLUGIN, 3]
  const line = `config_path = ${JSON.stringify(certsDir)}`
  if (!problems.some(isMainMissing)) return { text: `set registry.${line} in plugin "${id}"`, command }
  return {
    text: 'create this file, because there is none; if containerd uses another one, name it with --containerd-config',
    file: reader.path,
    lines: [`version = ${version}`, '', `[plugins."${id}".registry]`, `  ${line}`],
    command,
  }
}

/** Makes swarmirror use the directory that containerd uses in place of ours, if there is one. */
function remedyByDirectory({ files, settings, dialect }: ConfigView): Remedy | undefined {
  const { value } = settings.configPath
  if (files.length === 0 || settings.mirrors !== undefined || typeof value !== 'string') return undefined
  const [first, ...more] = value.split(':').filter((path) => path !== '')
  // A list that is not split must be changed anyway; of a split list, the first directory will do.
  if (!first?.startsWith('/') || (more.length > 0 && !dialect.splitsConfigPath)) return undefined
  const text = `let swarmirror use the directory that containerd uses (--certs-dir ${first}); containerd stays as it is`
  return { text, lines: [`${variableOf('certs-dir')}=${first}`] }
}

/** Tables of the old kind: beside config_path, they keep containerd from loading CRI. */
function judgeLegacy(view: ConfigView): Verdict {
  const { settings, dialect } = view
  const { mirrors, configsTls } = settings
  const alone = settings.configPath.value === ''
  const both = 'containerd does not load CRI with both: no pod would start'
  if (mirrorsInPlace(view)) {
    return { severity: 'ok', seen: `registry.mirrors takes the place of hosts.toml (${whereOf(mirrors)})` }
  }
  if (mirrors !== undefined) {
    const seen = `registry.mirrors is set (${whereOf(mirrors)})`
    if (!dialect.legacyRegistry) return { severity: 'warning', seen, why: 'this version of containerd ignores it' }
    return { severity: 'error', seen, why: alone ? `it must go when config_path is set: ${both}` : both }
  }
  if (configsTls !== undefined && !alone) {
    const seen = `registry.configs with tls is set (${whereOf(configsTls)})`
    // Versions after 1.x ignore the table.
    if (!dialect.is1x) return { severity: 'warning', seen, why: 'it is ignored beside config_path' }
    return { severity: 'error', seen, why: both }
  }
  return { severity: 'ok', seen: 'neither registry.mirrors nor registry.configs with tls' }
}

const WITHOUT_MIRRORS = 'delete the table registry.mirrors and all below it, whose endpoints belong in hosts.toml files'

/** What takes the tables of the old kind away. */
function remedyForLegacy(view: ConfigView): Remedy {
  const { mirrors, configsTls } = view.settings
  const command = restartOf(view)
  if (mirrors === undefined) {
    const text = 'delete each table registry.configs.HOST.tls, whose certificates belong in hosts.toml files'
    return { text: `${text} (${whereOf(configsTls)})`, command }
  }
  if (configPathVerdict(view).severity === 'error') {
    return { text: 'follow the remedy of registry-config-path, which removes the table as well' }
  }
  return { text: `${WITHOUT_MIRRORS} (${whereOf(mirrors)})`, command }
}

const CONFIG_PATH = rule({
  id: 'registry-config-path',
  reads: ({ config }: ConfigSnapshot) => config,
  judges: (config) => ({
    expected: `${config.expectation.certsDir} ${config.dialect.splitsConfigPath ? 'among its directories' : 'alone'}`,
    ...configPathVerdict(config),
  }),
  expected: 'the directory of the hosts.toml files',
  why: 'containerd looks for hosts.toml nowhere else, so it would never ask the mirror',
  remedy: remedyForConfigPath,
  provenBy: ({ probe }) => asksMirror(probe),
  proofIsEnough: true,
})

const LEGACY_REGISTRY = rule({
  id: 'legacy-registry-config',
  reads: withFiles,
  judges: judgeLegacy,
  expected: 'hosts.toml files in place of registry.mirrors and registry.configs',
  why: 'containerd accepts either the old tables or config_path',
  remedy: remedyForLegacy,
  provenBy: ({ probe }) => asksMirror(probe),
})

/** What makes containerd keep its layers. */
function remedyForDiscard(view: ConfigView): Remedy {
  const text = `${SET_THESE}; images that were pulled before must be pulled again to be shared whole`
  const set = ['discardUnpackedLayers', false] as const
  return remedyByDistribution(view, ...set) ?? { text, ...linesFor(...set, view), command: restartOf(view) }
}

const DISCARD_LAYERS = rule({
  id: 'discard-unpacked-layers',
  reads: ({ config }: ConfigSnapshot) => config,
  judges: discardVerdict,
  expected: 'discard_unpacked_layers is false',
  why: 'containerd would throw the layers away once they are unpacked, and keep none to share',
  remedy: (config, { severity }) =>
    severity === 'unknown' && config.files.length === 0 ? undefined : remedyForDiscard(config),
  // The files tell only where to look, and what may happen at containerd's next start.
  provenBy: ({ probe }) => keepsLayers(probe),
  proofIsEnough: true,
})

/** Judges discard_unpacked_layers by the files alone. */
export function discardVerdict(view: ConfigView): Verdict {
  const unread = unlessAllRead(view)
  if (unread !== undefined) return unread
  const { value, source } = view.settings.discardUnpackedLayers
  const where = whereOf(source)
  if (typeof value !== 'boolean') {
    return { severity: 'error', seen: `discard_unpacked_layers is not a boolean (${where})` }
  }
  return { severity: value ? 'error' : 'ok', seen: `discard_unpacked_layers is ${value} (${where})` }
}

const CRI_ENABLED = rule({
  id: 'cri-disabled',
  reads: withFiles,
  judges: ({ settings: { disabledCri } }) =>
    disabledCri.length === 0 ? [] : { severity: 'warning', seen: `disabled_plugins has ${quoted(disabledCri)}` },
  expected: 'CRI is enabled on a Kubernetes node',
  why: 'without CRI, containerd uses hosts.toml only for clients that name the directory themselves (ctr --hosts-dir)',
  remedy: (view) => ({
    text: `remove ${quoted(view.settings.disabledCri)} from disabled_plugins, if this is a Kubernetes node`,
    command: restartOf(view),
  }),
})

function quoted(ids: readonly string[]): string {
  return ids.map((id) => JSON.stringify(id)).join(' and ')
}

/** Rules on the settings that the mirror depends on. */
export const SETTING_RULES = [CONFIG_PATH, DISCARD_LAYERS, LEGACY_REGISTRY, CRI_ENABLED]
