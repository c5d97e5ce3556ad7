import { isTable, listOf, lookup, type TomlEntry, type TomlTable, tableAt } from '../../../toml/toml.ts'
import type { Dialect } from '../../dialect.ts'
import type { ConfigFile } from './load.ts'

/** CRI's plugin up to 1.7, in files of version 1. */
const SHORT_PLUGIN = 'cri'
/** CRI's plugin up to 1.7. Later versions migrate it from files of version 2 and before. */
export const OLD_PLUGIN = 'io.containerd.grpc.v1.cri'
/** The plugin for CRI's images since 2.0. */
export const IMAGES_PLUGIN = 'io.containerd.cri.v1.images'
/** All ids under which some version looks for the settings of images. */
export const PLUGIN_IDS: readonly string[] = [SHORT_PLUGIN, OLD_PLUGIN, IMAGES_PLUGIN]

/** What containerd makes of its files. */
export type MergedConfig = ReturnType<typeof mergeConfig>

/**
 * Merges files in the order in which they were read, by the rules of the version. Up to 1.7 a plugin's table replaces
 * the one before; since 2.0 containerd merges tables key by key and replaces values. The last `version` wins.
 *
 * From 2.0 to 2.2 a file of version 1, or of none, counts as the newest version once its ids are renamed. It thereby loses what has
 * since moved to other plugins (seen on 2.1.9; fixed in 2.3 by containerd's pull request 12608).
 */
export function mergeConfig(files: readonly ConfigFile[], { is1x, migratesFiles }: Dialect) {
  let version = is1x ? 1 : 3
  let plugins: TomlTable = new Map()
  const disabled = new Set<string>()
  for (const file of files) {
    const rename = (id: string) => (id === SHORT_PLUGIN && !is1x && file.version < 2 ? OLD_PLUGIN : id)
    let own: TomlTable = new Map([...tableAt(file.table, 'plugins')].map(([id, entry]) => [rename(id), entry]))
    if (migratesFiles && file.version < 3) own = migrated(own)
    if (is1x ? file.version !== 0 : file.version > 1) version = file.version
    plugins = is1x ? new Map([...plugins, ...own]) : mergeKeys(plugins, own)
    for (const { value } of listOf(file.table.get('disabled_plugins')) ?? []) {
      if (typeof value === 'string') disabled.add(rename(value))
    }
  }
  if (!is1x && !migratesFiles && version < 3) plugins = migrated(plugins)
  const settingsPlugin = !is1x ? IMAGES_PLUGIN : version === 1 ? SHORT_PLUGIN : OLD_PLUGIN
  return {
    /** The plugins' tables under the ids by which containerd looks them up. */
    plugins,
    /** The id under which the settings of images are looked up. */
    settingsPlugin,
    disabledPlugins: [...disabled],
  }
}

function mergeKeys(to: TomlTable, from: TomlTable): TomlTable {
  const merged = new Map(to)
  for (const [name, entry] of from) {
    const before = merged.get(name)?.value
    const both = isTable(before) && isTable(entry.value)
    merged.set(name, both ? { ...entry, value: mergeKeys(before, entry.value) } : entry)
  }
  return merged
}

/**
 * Migrates version 2 to 3, as far as pulls depend on it (migrateConfig in containerd's plugins/cri/images/plugin.go). containerd
 * takes over `registry` whole, in place of the new id's, and `discard_unpacked_layers` only if the file also has a table
 * `containerd.runtimes`.
 */
function migrated(plugins: TomlTable): TomlTable {
  const old = plugins.get(OLD_PLUGIN)
  if (old === undefined || !isTable(old.value)) return plugins
  const images = new Map(tableAt(plugins, IMAGES_PLUGIN))
  const registry = old.value.get('registry')
  const discard = lookup(old.value, 'containerd', 'discard_unpacked_layers')
  if (registry !== undefined) images.set('registry', registry)
  if (discard !== undefined && lookup(old.value, 'containerd', 'runtimes') !== undefined) {
    images.set('discard_unpacked_layers', discard)
  }
  return new Map<string, TomlEntry>([...plugins, [IMAGES_PLUGIN, { ...old, value: images }]])
}
