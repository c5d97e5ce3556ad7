import { applyEdits, planRemoval, planSetting } from '../../../toml/patch.ts'
import { lookup, type TomlEntry, type TomlTable, type TomlValue, tableAt } from '../../../toml/toml.ts'
import type { Dialect } from '../../dialect.ts'
import type { Remedy } from '../../rule.ts'
import { type ConfigFile, type ConfigFiles, type LoadedConfig, loadConfig } from './load.ts'
import { IMAGES_PLUGIN, type MergedConfig, mergeConfig, OLD_PLUGIN, PLUGIN_IDS } from './merge.ts'

/** A setting's value; `source` is missing if it is the version's default. */
export interface Setting {
  readonly value: TomlValue
  readonly source?: TomlEntry | undefined
}

/** A setting that versions keep in different places. */
export type MovedSetting = 'configPath' | 'discardUnpackedLayers'

/** containerd's files, and what they mean to it. */
export interface ConfigReading extends LoadedConfig {
  readonly reader: ConfigFiles
  readonly dialect: Dialect
  readonly merged: MergedConfig
  readonly settings: ReturnType<typeof effectiveSettings>
}

/** Reads the main file and all imports, like a containerd of that dialect. */
export async function readConfig(reader: ConfigFiles, dialect: Dialect): Promise<ConfigReading> {
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
  const configPath = lookup(plugins, ...pathOf(id, 'configPath'))
  const discard = lookup(plugins, ...pathOf(id, 'discardUnpackedLayers'))
  return {
    configPath: configPathOf(configPath, mirrors, dialect),
    discardUnpackedLayers: settingOf(discard, false),
    /** Whether CRI pulls by itself, although the version has the transfer service. */
    localPull: plugin.get('use_local_image_pull')?.value === true,
    /** Tables of the old kind: `registry.mirrors`, and `registry.configs` with `tls`. */
    mirrors,
    configsTls: configsTls(tableAt(registry, 'configs')),
    /** Settings in places where this version does not look, or that it drops. */
    ignored: [
      ...ignoredIn(plugins, id, 'configPath', configPath),
      ...ignoredIn(plugins, id, 'discardUnpackedLayers', discard),
    ],
    /** The id of a disabled plugin that CRI needs. */
    disabledCri: config.disabledPlugins.find((plugin) => CRI_PLUGINS.includes(plugin)),
  }
}

/** The plugins that CRI needs. */
export const CRI_PLUGINS: readonly string[] = [...PLUGIN_IDS, 'io.containerd.cri.v1.runtime']

function settingOf(source: TomlEntry | undefined, fallback: TomlValue): Setting {
  return { value: source?.value ?? fallback, source }
}

/** The default also replaces an empty value, unless tables of the old kind say whom to ask. */
function configPathOf(
  source: TomlEntry | undefined,
  mirrors: TomlEntry | undefined,
  { defaultConfigPath, legacyRegistry }: Dialect,
): Setting {
  const set = settingOf(source, '')
  const byMirrors = mirrors !== undefined && legacyRegistry
  return set.value === '' && !byMirrors && defaultConfigPath !== '' ? { value: defaultConfigPath } : set
}

function configsTls(configs: TomlTable): TomlEntry | undefined {
  return [...configs.keys()].map((name) => tableAt(configs, name).get('tls')).find((tls) => tls !== undefined)
}

/** The place of a setting below `plugins`, in the table of the plugin with that id. */
export function pathOf(id: string, name: MovedSetting): string[] {
  if (name === 'configPath') return [id, 'registry', 'config_path']
  return [id, ...(id === IMAGES_PLUGIN ? [] : ['containerd']), 'discard_unpacked_layers']
}

/** The places of a setting that `winner` does not come from: the names of its tables, and its own. */
function ignoredIn(plugins: TomlTable, used: string, name: MovedSetting, winner: TomlEntry | undefined) {
  return PLUGIN_IDS.flatMap((id) => {
    const path = pathOf(id, name)
    const source = lookup(plugins, ...path)
    // A migrated setting is the same entry under both ids.
    if (source === undefined || source === winner || (winner !== undefined && id !== used)) return []
    const because =
      used === IMAGES_PLUGIN && id === OLD_PLUGIN && name === 'discardUnpackedLayers'
        ? `containerd takes it over from plugin "${id}" only beside a table containerd.runtimes`
        : `this containerd takes it from plugin "${used}", not from "${id}"`
    return [{ source, path: ['plugins', ...path], because }]
  })
}

/**
 * The change of one of containerd's files that gives a setting a value. The function has tried it: with the change, the files say
 * that value. `undefined` if no such change exists, so that the remedy must describe it in words.
 *
 * @param withoutMirrors whether the change also removes `registry.mirrors`
 */
export async function planChange(
  name: MovedSetting,
  value: string | boolean,
  reading: ConfigReading,
  withoutMirrors = false,
): Promise<Pick<Remedy, 'file' | 'edits'> | undefined> {
  const { reader, dialect } = reading
  for (const { file, path } of placesFor(name, reading)) {
    const edits = planSetting(file.text, path, value)
    if (edits === undefined) continue
    const removals = withoutMirrors ? (planRemoval(file.text, [...path.slice(0, -1), 'mirrors']) ?? []) : []
    const change = { file: file.path, edits: [...removals, ...edits] }
    const changed = Buffer.from(applyEdits(file.text, change.edits))
    const read = async (wanted: string) => (wanted === file.path ? changed : await reader.read(wanted))
    const { settings, problems } = await readConfig({ ...reader, read }, dialect)
    const works = settings[name].value === value && !(withoutMirrors && settings.mirrors !== undefined)
    if (works && problems.length === reading.problems.length) return change
  }
  return undefined
}

/** The places where a setting may be written, the best first: where it is, then where this version looks for it. */
function placesFor(name: MovedSetting, { files, merged, settings, dialect }: ConfigReading) {
  const { source } = settings[name]
  const places: { file: ConfigFile; path: readonly string[] }[] = []
  const add = (file: ConfigFile, id: string) => places.push({ file, path: ['plugins', ...pathOf(id, name)] })
  for (const file of source === undefined ? [] : files) {
    for (const id of PLUGIN_IDS) if (lookup(file.table, 'plugins', ...pathOf(id, name)) === source) add(file, id)
  }
  const idIn = ({ version }: ConfigFile) => {
    if (dialect.migration === 'none') return merged.settingsPlugin
    return version === 2 ? OLD_PLUGIN : IMAGES_PLUGIN
  }
  // If a plugin's table replaces the one before, only the last file with one counts.
  const last = files.findLast((file) => lookup(file.table, 'plugins', idIn(file)) !== undefined)
  for (const file of [last, files[0]]) if (file !== undefined) add(file, idIn(file))
  return places
}
