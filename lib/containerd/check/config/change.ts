import { applyEdits, type Edit, planRemoval, planSetting } from '../../../toml/patch.ts'
import { type ConfigFile, type ConfigFiles, lookup } from './load.ts'
import { IMAGES_PLUGIN, OLD_PLUGIN, PLUGIN_IDS } from './merge.ts'
import { type ConfigReading, type EffectiveSettings, pathOf, readConfig, type SettingName } from './settings.ts'

/** A setting that shall have a value. */
export interface WantedSetting {
  readonly name: SettingName
  readonly value: string | boolean
  /** Whether `registry.mirrors` shall go. */
  readonly withoutMirrors: boolean
}

/** A change of one file that has been tried. */
export interface PlannedChange {
  readonly file: string
  readonly edits: readonly Edit[]
}

/**
 * The change of one of containerd's files that gives a setting a value. It has been tried: read again with it, the files say
 * that value. `undefined` if there is none; then words must do.
 */
export async function planChange(
  { name, value, withoutMirrors }: WantedSetting,
  reading: ConfigReading,
): Promise<PlannedChange | undefined> {
  for (const { file, path } of placesFor(name, reading)) {
    const edits = planSetting(file.text, path, value)
    if (edits === undefined) continue
    const removals = withoutMirrors ? (planRemoval(file.text, [...path.slice(0, -1), 'mirrors']) ?? []) : []
    const change = { file: file.path, edits: [...removals, ...edits] }
    const changed = overlaid(reading.reader, file.path, applyEdits(file.text, change.edits))
    const { settings, problems } = await readConfig(changed, reading.dialect)
    const works = settingNamed(settings, name).value === value && !(withoutMirrors && settings.mirrors !== undefined)
    if (works && problems.length === reading.problems.length) return change
  }
  return undefined
}

function settingNamed({ configPath, discardUnpackedLayers }: EffectiveSettings, name: SettingName) {
  return name === 'config_path' ? configPath : discardUnpackedLayers
}

/** Where a setting may be written, the best place first: where it stands, then where this version looks for it. */
function placesFor(name: SettingName, { files, merged, settings, dialect }: ConfigReading) {
  const { source } = settingNamed(settings, name)
  const places: { file: ConfigFile; path: readonly string[] }[] = []
  const add = (file: ConfigFile, id: string) => places.push({ file, path: ['plugins', ...pathOf(id, name)] })
  for (const file of files.filter(({ path }) => path === source?.file)) {
    for (const id of PLUGIN_IDS) {
      if (lookup(file.table, 'plugins', ...pathOf(id, name))?.line === source?.line) add(file, id)
    }
  }
  const idIn = ({ version }: ConfigFile) => {
    if (dialect.migration === 'none') return merged.settingsPlugin
    return version === 2 ? OLD_PLUGIN : IMAGES_PLUGIN
  }
  // Where a plugin's table replaces the one before, only the last file that has one counts.
  const last = files.findLast((file) => lookup(file.table, 'plugins', idIn(file)) !== undefined)
  for (const file of [last, files[0]]) if (file !== undefined) add(file, idIn(file))
  return places
}

/** A reader for which one file has another text. */
function overlaid(reader: ConfigFiles, path: string, text: string): ConfigFiles {
  return { ...reader, read: async (wanted) => (wanted === path ? Buffer.from(text) : await reader.read(wanted)) }
}
