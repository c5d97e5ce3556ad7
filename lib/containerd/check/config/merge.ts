import type { Dialect } from '../../dialect.ts'
import { type ConfigFile, type ConfigTable, isTable, lookup, type Sourced } from './load.ts'

/** What containerd makes of its files: the plugins' tables under the ids that it looks them up by. */
export interface MergedConfig {
  /** The version that the whole counts as, before any migration. */
  readonly version: number
  readonly plugins: ConfigTable
  readonly disabledPlugins: readonly string[]
  /** Why containerd refuses the whole, if it does. */
  readonly refusal?: string | undefined
}

/** The plugin that has both settings up to 1.7, and after it in files of version 2 and before, which are migrated. */
export const OLD_PLUGIN = 'io.containerd.grpc.v1.cri'
/** The plugin that has both settings since 2.0. */
export const IMAGES_PLUGIN = 'io.containerd.cri.v1.images'

/** What containerd's source leaves open, told by neither its version nor its files: each is read both ways. */
export interface MergeChoices {
  /** 2.0 to 2.2 raise a main file of version 1, or of none, to the newest version as they read it: nothing is migrated. */
  readonly migrateFirst: boolean
  /** 2.3 runs the migration from version 2 on files of version 3 as well. */
  readonly migrateThird: boolean
}

/**
 * Merges files in the order in which they were read, by the rules of the version. Up to 1.7 a plugin's table replaces
 * the one before; since 2.0 tables are merged key by key, and values replaced. The last `version` that is named wins.
 */
export function mergeConfig(files: readonly ConfigFile[], dialect: Dialect, choices: MergeChoices): MergedConfig {
  let version: number = dialect.unnamedConfig === 'newest' ? dialect.newestConfig : 1
  let plugins: ConfigTable = new Map()
  const disabled = new Set<string>()
  let root = 0
  let refusal: string | undefined
  for (const file of files) {
    const own =
      dialect.migration !== 'none' && file.version < 2 ? renamed(pluginsOf(file.table)) : pluginsOf(file.table)
    if (dialect.migration === 'each') {
      if (root === 0) root = file.version
      if (file.version > root)
        refusal ??= `${file.path} has version ${file.version}, higher than the main file's ${root}`
      plugins = mergeKeys(plugins, file.version < 3 || choices.migrateThird ? migrated(own) : own)
    } else {
      // Since 2.0, a file of version 1 or none is raised to the version that those before it have made of the whole.
      if (dialect.migration === 'none' ? file.version !== 0 : file.version > 1) version = file.version
      plugins = dialect.merge === 'keys' ? mergeKeys(plugins, own) : new Map([...plugins, ...own])
    }
    for (const id of disabledIn(file.table))
      disabled.add(id === 'cri' && dialect.migration !== 'none' && file.version < 2 ? OLD_PLUGIN : id)
  }
  if (dialect.migration === 'merged' && (version < 3 || (choices.migrateFirst && (files[0]?.version ?? 0) < 2))) {
    plugins = migrated(plugins)
  }
  const highest = Math.max(0, ...files.map((file) => file.version))
  if (highest > dialect.newestConfig) {
    refusal ??= `version ${highest} is higher than ${dialect.newestConfig}, the highest that it reads`
  }
  const short = shortNames(plugins, disabled, dialect, version)
  if (short !== undefined)
    refusal ??= `${JSON.stringify(short)} is no full id of a plugin, as version ${version} wants it`
  return { version, plugins, disabledPlugins: [...disabled], refusal }
}

/** A short name where only full ids are taken: containerd does not start with one. */
function shortNames(
  plugins: ConfigTable,
  disabled: ReadonlySet<string>,
  dialect: Dialect,
  version: number,
): string | undefined {
  // 1.x looks at both once the whole is of version 2; later versions at what is disabled only.
  if (dialect.migration === 'none' && version < 2) return undefined
  const names = dialect.migration === 'none' ? [...plugins.keys(), ...disabled] : disabled
  return [...names].find((name) => !name.includes('.'))
}

/** The id under which the two settings are looked up. */
export function settingsPlugin(config: MergedConfig, dialect: Dialect): string {
  if (dialect.migration !== 'none') return IMAGES_PLUGIN
  return config.version === 1 ? 'cri' : OLD_PLUGIN
}

function pluginsOf(table: ConfigTable): ConfigTable {
  const plugins = table.get('plugins')?.value
  return isTable(plugins) ? plugins : new Map()
}

function disabledIn(table: ConfigTable): string[] {
  const list = table.get('disabled_plugins')?.value
  if (!Array.isArray(list)) return []
  return (list as readonly Sourced[]).flatMap(({ value }) => (typeof value === 'string' ? [value] : []))
}

function mergeKeys(to: ConfigTable, from: ConfigTable): ConfigTable {
  const merged = new Map(to)
  for (const [name, entry] of from) {
    const before = merged.get(name)?.value
    const both = isTable(before) && isTable(entry.value)
    merged.set(name, both ? { ...entry, value: mergeKeys(before, entry.value) } : entry)
  }
  return merged
}

/** Version 1 to 2: ids without a dot are short names. Only that of CRI matters here. */
function renamed(plugins: ConfigTable): ConfigTable {
  return new Map([...plugins].map(([id, entry]) => [id === 'cri' ? OLD_PLUGIN : id, entry]))
}

/**
 * Version 2 to 3, as far as the two settings go. `registry` is taken over whole, above what the new id had;
 * `discard_unpacked_layers` only where the file also has a table `containerd.runtimes`.
 */
function migrated(plugins: ConfigTable): ConfigTable {
  const old = plugins.get(OLD_PLUGIN)
  if (old === undefined || !isTable(old.value)) return plugins
  const before = plugins.get(IMAGES_PLUGIN)
  const images = new Map(isTable(before?.value) ? before.value : [])
  const move = (name: string, entry: Sourced | undefined) => {
    if (entry !== undefined) images.set(name, entry)
  }
  move('registry', old.value.get('registry'))
  move('max_concurrent_downloads', old.value.get('max_concurrent_downloads'))
  move('image_pull_with_sync_fs', old.value.get('image_pull_with_sync_fs'))
  if (lookup(old.value, 'containerd', 'runtimes') !== undefined) {
    move('discard_unpacked_layers', lookup(old.value, 'containerd', 'discard_unpacked_layers'))
    move('disable_snapshot_annotations', lookup(old.value, 'containerd', 'disable_snapshot_annotations'))
  }
  return new Map([...plugins, [IMAGES_PLUGIN, { ...old, value: images }]])
}
