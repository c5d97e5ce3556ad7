import { keyText, lookup, type TomlEntry, type TomlValue, tableAt } from '../../../toml/toml.ts'
import type { Dialect } from '../../dialect.ts'
import type { Remedy } from '../../rule.ts'
import { type ConfigFile, type ConfigFiles, loadConfig } from './load.ts'
import { IMAGES_PLUGIN, type MergedConfig, mergeConfig, OLD_PLUGIN, PLUGIN_IDS } from './merge.ts'

/** A setting's value; `source` is missing if it is the version's default. */
export interface Setting {
  readonly value: TomlValue
  readonly source?: TomlEntry | undefined
}

/** A setting that versions keep in different places. */
export type MovedSetting = 'configPath' | 'discardUnpackedLayers'

/** containerd's files, and what they mean to it. */
export type ConfigReading = Awaited<ReturnType<typeof readConfig>>

/** Reads the main file and all imports, like a containerd of that dialect. */
export async function readConfig(reader: ConfigFiles, dialect: Dialect) {
  const loaded = await loadConfig(reader)
  const merged = mergeConfig(loaded.files, dialect)
  return { reader, dialect, ...loaded, merged, settings: effectiveSettings(merged, dialect) }
}

/** The settings that the mirror depends on, as containerd would have them. */
function effectiveSettings(config: MergedConfig, dialect: Dialect) {
  const { plugins, settingsPlugin: id } = config
  const plugin = tableAt(plugins, id)
  const registry = tableAt(plugin, 'registry')
  const mirrors = tableAt(registry, 'mirrors').size > 0 ? registry.get('mirrors') : undefined
  const configs = tableAt(registry, 'configs')
  const settingOf = (name: MovedSetting, fallback: TomlValue): Setting => {
    const source = lookup(plugins, ...pathOf(id, name))
    return { value: source?.value ?? fallback, source }
  }
  const configPath = settingOf('configPath', '')
  // The default also replaces an empty value, unless tables of the old kind say whom to ask.
  const byMirrors = mirrors !== undefined && dialect.legacyRegistry
  const isDefault = configPath.value === '' && !byMirrors && dialect.defaultConfigPath !== ''
  return {
    configPath: isDefault ? { value: dialect.defaultConfigPath } : configPath,
    discardUnpackedLayers: settingOf('discardUnpackedLayers', false),
    /** Whether CRI pulls by itself, although the version has the transfer service. */
    localPull: plugin.get('use_local_image_pull')?.value === true,
    /** Tables of the old kind: `registry.mirrors`, and `registry.configs` with `tls`. */
    mirrors,
    configsTls: configs
      .keys()
      .map((name) => tableAt(configs, name).get('tls'))
      .find((tls) => tls !== undefined),
    /** The ids of disabled plugins without which there is no CRI. */
    disabledCri: config.disabledPlugins.filter((plugin) => CRI_PLUGINS.includes(plugin)),
  }
}

/** Plugins without any of which there is no CRI. */
const CRI_PLUGINS: readonly string[] = [...PLUGIN_IDS, 'io.containerd.cri.v1.runtime']

/** The place of a setting below `plugins`, in the table of the plugin with that id. */
export function pathOf(id: string, name: MovedSetting): string[] {
  if (name === 'configPath') return [id, 'registry', 'config_path']
  return [id, ...(id === IMAGES_PLUGIN ? [] : ['containerd']), 'discard_unpacked_layers']
}

/**
 * The file in which a setting belongs, and the lines for it: where it stands if it stands anywhere, otherwise where this version
 * looks for it. `undefined` if there is no file.
 */
export function linesFor(
  name: MovedSetting,
  value: string | boolean,
  { files, merged, settings, dialect }: ConfigReading,
): Pick<Remedy, 'file' | 'lines'> | undefined {
  const { source } = settings[name]
  const of = (file: ConfigFile, id: string) => {
    const path = ['plugins', ...pathOf(id, name)]
    const line = `  ${path.at(-1)} = ${JSON.stringify(value)}`
    return { file: file.path, lines: [`[${keyText(path.slice(0, -1))}]`, line] }
  }
  for (const file of source === undefined ? [] : files) {
    for (const id of PLUGIN_IDS) if (lookup(file.table, 'plugins', ...pathOf(id, name)) === source) return of(file, id)
  }
  const idIn = ({ version }: ConfigFile) => {
    if (dialect.is1x) return merged.settingsPlugin
    return version === 2 ? OLD_PLUGIN : IMAGES_PLUGIN
  }
  // Where a plugin's table replaces the one before, only the last file that has one counts.
  const last = files.findLast((file) => lookup(file.table, 'plugins', idIn(file)) !== undefined) ?? files[0]
  return last && of(last, idIn(last))
}
