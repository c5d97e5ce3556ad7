import { applyEdits, planRemoval, planSetting } from '../../../toml/patch.ts'
import { lookup } from '../../../toml/toml.ts'
import type { Remedy } from '../../rule.ts'
import type { ConfigFile } from './load.ts'
import { IMAGES_PLUGIN, OLD_PLUGIN, PLUGIN_IDS } from './merge.ts'
import { type ConfigReading, type MovedSetting, pathOf, readConfig } from './settings.ts'

/**
 * The change of one of containerd's files that gives a setting a value. It has been tried: read again with it, the files say
 * that value. `undefined` if there is none; then words must do.
 *
 * @param withoutMirrors whether the change takes `registry.mirrors` away as well
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

/** Where a setting may be written, the best place first: where it stands, then where this version looks for it. */
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
  // Where a plugin's table replaces the one before, only the last file that has one counts.
  const last = files.findLast((file) => lookup(file.table, 'plugins', idIn(file)) !== undefined)
  for (const file of [last, files[0]]) if (file !== undefined) add(file, idIn(file))
  return places
}
