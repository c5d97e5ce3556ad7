import type { Dialect } from '../../dialect.ts'
import { type ConfigTable, type ConfigValue, isTable, lookup, type Sourced } from './load.ts'
import { IMAGES_PLUGIN, type MergedConfig, OLD_PLUGIN, settingsPlugin } from './merge.ts'

/** A setting's value; `source` is missing where it is the version's default. */
export interface Setting<T extends ConfigValue> {
  readonly value: T
  readonly source?: Sourced | undefined
}

/** The settings that the mirror depends on, as one containerd would have them. */
export interface EffectiveSettings {
  readonly configPath: Setting<ConfigValue>
  readonly discardUnpackedLayers: Setting<ConfigValue>
  readonly sharingPolicy: Setting<ConfigValue>
  /** Pulls of CRI do not go through the transfer service, although the version has it. */
  readonly localPull: boolean
  /** Why containerd falls back to pulling by itself, in words, if a setting makes it do so. */
  readonly localPullBecause?: string | undefined
  /** Tables of the old kind: `registry.mirrors`, and `registry.configs` with `tls`. */
  readonly mirrors?: Sourced | undefined
  readonly configsTls?: Sourced | undefined
  /** Settings that stand where this version does not look, or drops them. */
  readonly ignored: readonly IgnoredSetting[]
  /** The id of a disabled plugin without which there is no CRI. */
  readonly disabledCri?: string | undefined
}

export interface IgnoredSetting {
  readonly name: 'config_path' | 'discard_unpacked_layers'
  readonly source: Sourced
  /** Names of the tables that it is in, and its own. */
  readonly path: readonly string[]
  readonly because: string
}

/** Layers that CRI downloads at a time by default; with another number it pulls by itself instead of by transfer. */
const DEFAULT_DOWNLOADS = 3
/** The plugin that has the sharing policy; by the short id in files of version 1. */
export const BOLT_PLUGIN = 'io.containerd.metadata.v1.bolt'

/** Picks out what the mirror depends on. */
export function effectiveSettings(config: MergedConfig, dialect: Dialect): EffectiveSettings {
  const id = settingsPlugin(config, dialect)
  const plugin = tableAt(config.plugins, id)
  const layers = dialect.migration === 'none' ? tableAt(plugin, 'containerd') : plugin
  const mirrors = lookup(plugin, 'registry', 'mirrors')
  const usedMirrors = isTable(mirrors?.value) && mirrors.value.size > 0 ? mirrors : undefined
  const configPath = lookup(plugin, 'registry', 'config_path')
  const discard = layers?.get('discard_unpacked_layers')
  return {
    configPath: setting(configPath, dialect.defaultConfigPath),
    discardUnpackedLayers: setting(discard, false),
    sharingPolicy: setting(
      lookup(
        config.plugins,
        config.version === 1 && dialect.migration === 'none' ? 'bolt' : BOLT_PLUGIN,
        'content_sharing_policy',
      ),
      'shared',
    ),
    localPull: plugin?.get('use_local_image_pull')?.value === true,
    localPullBecause: localPullBecause(plugin),
    mirrors: usedMirrors,
    configsTls: configsTls(tableAt(tableAt(plugin, 'registry'), 'configs')),
    ignored: ignoredSettings(config.plugins, id, { configPath, discard }),
    disabledCri: config.disabledPlugins.find((plugin) => CRI_PLUGINS.includes(plugin)),
  }
}

const CRI_PLUGINS: readonly string[] = ['cri', OLD_PLUGIN, IMAGES_PLUGIN, 'io.containerd.cri.v1.runtime']

function setting(source: Sourced | undefined, fallback: ConfigValue): Setting<ConfigValue> {
  return source === undefined ? { value: fallback } : { value: source.value, source }
}

function tableAt(table: ConfigTable | undefined, name: string): ConfigTable | undefined {
  const value = table?.get(name)?.value
  return isTable(value) ? value : undefined
}

function configsTls(configs: ConfigTable | undefined): Sourced | undefined {
  for (const entry of configs?.values() ?? []) {
    const tls = isTable(entry.value) ? entry.value.get('tls') : undefined
    if (tls !== undefined) return tls
  }
  return undefined
}

/**
 * discard_unpacked_layers and registry.mirrors do it too, and are left out: they must go, and then a list is no longer
 * split.
 */
function localPullBecause(plugin: ConfigTable | undefined): string | undefined {
  const registry = tableAt(plugin, 'registry')
  const filled = (name: string) => (tableAt(registry, name)?.size ?? 0) > 0
  const downloads = plugin?.get('max_concurrent_downloads')?.value
  if (plugin?.get('disable_snapshot_annotations')?.value === false) return 'disable_snapshot_annotations = false'
  if (filled('configs')) return 'registry.configs'
  if (filled('auths')) return 'registry.auths'
  if (downloads !== undefined && downloads !== DEFAULT_DOWNLOADS) return 'max_concurrent_downloads'
  if (plugin?.get('image_pull_with_sync_fs')?.value === true) return 'image_pull_with_sync_fs = true'
  return undefined
}

/** Everywhere that one version or another looks for the two settings. */
const PLACES = [
  { id: 'cri', name: 'config_path', path: ['cri', 'registry', 'config_path'] },
  { id: OLD_PLUGIN, name: 'config_path', path: [OLD_PLUGIN, 'registry', 'config_path'] },
  { id: IMAGES_PLUGIN, name: 'config_path', path: [IMAGES_PLUGIN, 'registry', 'config_path'] },
  { id: 'cri', name: 'discard_unpacked_layers', path: ['cri', 'containerd', 'discard_unpacked_layers'] },
  { id: OLD_PLUGIN, name: 'discard_unpacked_layers', path: [OLD_PLUGIN, 'containerd', 'discard_unpacked_layers'] },
  { id: IMAGES_PLUGIN, name: 'discard_unpacked_layers', path: [IMAGES_PLUGIN, 'discard_unpacked_layers'] },
] as const

function ignoredSettings(
  plugins: ConfigTable,
  id: string,
  used: { configPath: Sourced | undefined; discard: Sourced | undefined },
): IgnoredSetting[] {
  const ignored: IgnoredSetting[] = []
  for (const place of PLACES) {
    const source = lookup(plugins, ...place.path)
    const winner = place.name === 'config_path' ? used.configPath : used.discard
    // What was migrated stands under both ids, and is the same entry.
    if (source === undefined || source === winner || (winner !== undefined && place.id !== id)) continue
    const because =
      id === IMAGES_PLUGIN && place.id === OLD_PLUGIN && place.name === 'discard_unpacked_layers'
        ? `containerd takes it over from plugin "${place.id}" only beside a table containerd.runtimes`
        : `this containerd takes it from plugin "${id}", not from "${place.id}"`
    ignored.push({ name: place.name, source, path: ['plugins', ...place.path], because })
  }
  return ignored
}
