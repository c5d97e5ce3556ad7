import { lookup, type TomlEntry, type TomlTable, type TomlValue, tableAt } from '../../../toml/toml.ts'
import type { Dialect } from '../../dialect.ts'
import { type ConfigFiles, type LoadedConfig, loadConfig } from './load.ts'
import { IMAGES_PLUGIN, type MergedConfig, mergeConfig, OLD_PLUGIN, PLUGIN_IDS } from './merge.ts'

/** A setting's value; `source` is missing where it is the version's default. */
export interface Setting {
  readonly value: TomlValue
  readonly source?: TomlEntry | undefined
}

/** A setting that has stood in different places. */
export type MovedSetting = 'configPath' | 'discardUnpackedLayers'

/** containerd's files, and what it makes of them. */
export interface ConfigReading extends LoadedConfig {
  readonly reader: ConfigFiles
  readonly dialect: Dialect
  readonly merged: MergedConfig
  readonly settings: ReturnType<typeof effectiveSettings>
}

/** Layers that CRI downloads at a time by default; with another number it pulls by itself instead of by transfer. */
const DEFAULT_DOWNLOADS = 3
/** The plugin that has the sharing policy; by the short id in files of version 1. */
export const BOLT_PLUGINS = ['io.containerd.metadata.v1.bolt', 'bolt'] as const

/** Reads the main file and all that it imports as containerd of that dialect does. */
export async function readConfig(reader: ConfigFiles, dialect: Dialect): Promise<ConfigReading> {
  const loaded = await loadConfig(reader, dialect)
  const merged = mergeConfig(loaded.files, dialect)
  return { reader, dialect, ...loaded, merged, settings: effectiveSettings(merged, dialect) }
}

/** The settings that the mirror depends on, as containerd would have them. */
function effectiveSettings(config: MergedConfig, dialect: Dialect) {
  const { plugins, settingsPlugin: id } = config
  const plugin = tableAt(plugins, id)
  const registry = tableAt(plugin, 'registry')
  const mirrors = tableAt(registry, 'mirrors').size > 0 ? registry.get('mirrors') : undefined
  const configPath = lookup(plugins, ...pathOf(id, 'configPath'))
  const discard = lookup(plugins, ...pathOf(id, 'discardUnpackedLayers'))
  const bolt = BOLT_PLUGINS[config.version === 1 && dialect.migration === 'none' ? 1 : 0]
  return {
    configPath: configPathOf(configPath, mirrors, dialect),
    discardUnpackedLayers: settingOf(discard, false),
    sharingPolicy: settingOf(lookup(plugins, bolt, 'content_sharing_policy'), 'shared'),
    /** Whether CRI is told to pull by itself, although the version has the transfer service. */
    localPull: plugin.get('use_local_image_pull')?.value === true,
    /** The setting that makes it do so although nobody asked for that. */
    localPullBecause: localPullBecause(plugin, dialect.legacyRegistry ? registry : new Map()),
    /** Tables of the old kind: `registry.mirrors`, and `registry.configs` with `tls`. */
    mirrors,
    configsTls: configsTls(tableAt(registry, 'configs')),
    /** Settings where this version does not look, or that it drops. */
    ignored: [
      ...ignoredIn(plugins, id, 'configPath', configPath),
      ...ignoredIn(plugins, id, 'discardUnpackedLayers', discard),
    ],
    /** The id of a disabled plugin without which there is no CRI. */
    disabledCri: config.disabledPlugins.find((plugin) => CRI_PLUGINS.includes(plugin)),
  }
}

const CRI_PLUGINS: readonly string[] = [...PLUGIN_IDS, 'io.containerd.cri.v1.runtime']

function settingOf(source: TomlEntry | undefined, fallback: TomlValue): Setting {
  return { value: source?.value ?? fallback, source }
}

/** The default is a value like any other, or (since 2.2.2) what CRI takes at its start where nothing else tells it whom to ask. */
function configPathOf(
  source: TomlEntry | undefined,
  mirrors: TomlEntry | undefined,
  { defaultConfigPath, mirrorsComeFirst, legacyRegistry }: Dialect,
): Setting {
  if (!mirrorsComeFirst) return settingOf(source, defaultConfigPath)
  const set = settingOf(source, '')
  const byMirrors = mirrors !== undefined && legacyRegistry
  return set.value === '' && !byMirrors ? { value: defaultConfigPath } : set
}

function configsTls(configs: TomlTable): TomlEntry | undefined {
  return [...configs.keys()].map((name) => tableAt(configs, name).get('tls')).find((tls) => tls !== undefined)
}

/**
 * The setting that makes CRI pull by itself (CheckLocalImagePullConfigs in containerd's internal/cri/config).
 * discard_unpacked_layers and registry.mirrors do so too, and are left out: they must go, and a list is not split any more then.
 */
function localPullBecause(plugin: TomlTable, registry: TomlTable): string | undefined {
  const downloads = plugin.get('max_concurrent_downloads')?.value ?? DEFAULT_DOWNLOADS
  if (plugin.get('disable_snapshot_annotations')?.value === false) return 'disable_snapshot_annotations = false'
  if (tableAt(registry, 'configs').size > 0) return 'registry.configs'
  if (tableAt(registry, 'auths').size > 0) return 'registry.auths'
  if (downloads !== DEFAULT_DOWNLOADS) return 'max_concurrent_downloads'
  if (plugin.get('image_pull_with_sync_fs')?.value === true) return 'image_pull_with_sync_fs = true'
  return undefined
}

/** Where a setting stands below `plugins`, in the table of the plugin with that id. */
export function pathOf(id: string, name: MovedSetting): string[] {
  if (name === 'configPath') return [id, 'registry', 'config_path']
  return [id, ...(id === IMAGES_PLUGIN ? [] : ['containerd']), 'discard_unpacked_layers']
}

/** Where a setting stands that `winner` does not come from: names of the tables that it is in, and its own. */
function ignoredIn(plugins: TomlTable, used: string, name: MovedSetting, winner: TomlEntry | undefined) {
  return PLUGIN_IDS.flatMap((id) => {
    const path = pathOf(id, name)
    const source = lookup(plugins, ...path)
    // What was migrated stands under both ids, and is the same entry.
    if (source === undefined || source === winner || (winner !== undefined && id !== used)) return []
    const because =
      used === IMAGES_PLUGIN && id === OLD_PLUGIN && name === 'discardUnpackedLayers'
        ? `containerd takes it over from plugin "${id}" only beside a table containerd.runtimes`
        : `this containerd takes it from plugin "${used}", not from "${id}"`
    return [{ source, path: ['plugins', ...path], because }]
  })
}
