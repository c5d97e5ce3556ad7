import { posix } from 'node:path'
import type { Edit } from '../../../toml/patch.ts'
import { applyEdits, planRemoval, planSetting } from '../../../toml/patch.ts'
import type { Dialect } from '../../dialect.ts'
import { type EffectiveSettings, effectiveSettings } from './effective.ts'
import type { FileReader } from './files.ts'
import { type ConfigFile, type LoadedConfig, loadConfig, lookup, type Sourced } from './load.ts'
import { IMAGES_PLUGIN, type MergeChoices, type MergedConfig, mergeConfig, OLD_PLUGIN } from './merge.ts'

/** One way in which this containerd may read its files. */
export interface Reading {
  readonly config: MergedConfig
  readonly settings: EffectiveSettings
}

/** The files, and every way in which this version may read them: mostly one. */
export interface Readings {
  readonly loaded: LoadedConfig
  readonly all: readonly Reading[]
}

/** Reads containerd's files in each way that the version leaves open. */
export async function readSettings(path: string, reader: FileReader, dialect: Dialect): Promise<Readings> {
  const loaded = await loadConfig(path, reader, dialect)
  const variants = [loaded]
  const main = loaded.files.find((file) => file.importedBy === undefined)
  if (main !== undefined && !main.table.has('imports') && dialect.defaultImports.length > 0) {
    // The default drop-ins are part of the default configuration; whether they count beside a file that has no `imports`
    // is not established for all of 2.2 and later.
    variants.push(await loadConfig(path, reader, dialect, dialect.defaultImports))
  }
  const all: Reading[] = []
  for (const { files } of variants) {
    for (const choices of choicesOf(files, dialect)) {
      const config = mergeConfig(files, dialect, choices)
      const settings = effectiveSettings(config, dialect)
      all.push({ config, settings })
      if (
        settings.mirrors !== undefined &&
        settings.configPath.source === undefined &&
        settings.configPath.value !== ''
      ) {
        // 2.2.0 does not load CRI with its own default beside registry.mirrors; later ones leave the default out then
        // (containerd pull request 12617).
        all.push({ config, settings: { ...settings, configPath: { value: '' } } })
      }
    }
  }
  return { loaded, all }
}

function choicesOf(files: readonly ConfigFile[], dialect: Dialect): MergeChoices[] {
  const plain = { migrateFirst: true, migrateThird: true }
  if (dialect.migration === 'merged' && (files[0]?.version ?? 0) < 2) return [plain, { ...plain, migrateFirst: false }]
  if (dialect.migration === 'each' && files.some((file) => file.version === 3)) {
    return [plain, { ...plain, migrateThird: false }]
  }
  return [plain]
}

/** A change of one file that has been tried. */
export interface PlannedChange {
  readonly file: string
  readonly edits: readonly Edit[]
}

/**
 * The change of one of containerd's files that makes a setting have a value, and takes tables of the old kind away where
 * asked to. It is tried: with it, every reading has that value. `undefined` if none is found; then words must do.
 */
export async function planChange(
  wanted: { readonly name: SettingName; readonly value: string | boolean; readonly withoutMirrors: boolean },
  { loaded, all }: Readings,
  reader: FileReader,
  dialect: Dialect,
): Promise<PlannedChange | undefined> {
  const main = loaded.files[0]
  if (main === undefined) return undefined
  const source =
    wanted.name === 'config_path' ? all[0]?.settings.configPath.source : all[0]?.settings.discardUnpackedLayers.source
  for (const { file, path } of placesFor(wanted.name, source, loaded.files, all[0]?.config, dialect)) {
    const edits = planSetting(file.text, path, wanted.value)
    if (edits === undefined) continue
    const removals = wanted.withoutMirrors ? (planRemoval(file.text, [...path.slice(0, -1), 'mirrors']) ?? []) : []
    const change = { file: file.path, edits: [...removals, ...edits] }
    const changed = overlaid(reader, file.path, applyEdits(file.text, change.edits))
    const after = await readSettings(main.path, changed, dialect)
    const works = after.all.every(({ settings }) => {
      const setting = wanted.name === 'config_path' ? settings.configPath : settings.discardUnpackedLayers
      return setting.value === wanted.value && !(wanted.withoutMirrors && settings.mirrors !== undefined)
    })
    if (works && after.loaded.problems.length === loaded.problems.length) return change
  }
  return undefined
}

export type SettingName = 'config_path' | 'discard_unpacked_layers'

/** Where a setting may be written, the best place first: where it stands, then where this version looks for it. */
function placesFor(
  name: SettingName,
  source: Sourced | undefined,
  files: readonly ConfigFile[],
  config: MergedConfig | undefined,
  dialect: Dialect,
): { file: ConfigFile; path: readonly string[] }[] {
  const paths = ['cri', OLD_PLUGIN, IMAGES_PLUGIN].map((id) => pathOf(id, name))
  const places = files.flatMap((file) =>
    paths
      .filter((path) => {
        const entry = lookup(file.table, ...path)
        return entry !== undefined && entry.line === source?.line && file.path === source.file
      })
      .map((path) => ({ file, path })),
  )
  const id = (file: ConfigFile) => {
    if (dialect.migration === 'none') return config?.version === 1 ? 'cri' : OLD_PLUGIN
    return file.version === 2 ? OLD_PLUGIN : IMAGES_PLUGIN
  }
  // Where a plugin's table replaces the one before, only the last file that has one counts.
  const having = files.filter((file) => lookup(file.table, 'plugins', id(file)) !== undefined)
  for (const file of [having.at(-1), files[0]]) {
    if (file !== undefined) places.push({ file, path: pathOf(id(file), name) })
  }
  return places
}

function pathOf(id: string, name: SettingName): string[] {
  if (name === 'config_path') return ['plugins', id, 'registry', name]
  return id === IMAGES_PLUGIN ? ['plugins', id, name] : ['plugins', id, 'containerd', name]
}

/** A reader for which one file has another text. */
export function overlaid(reader: FileReader, path: string, text: string): FileReader {
  return {
    read: (wanted) => (wanted === path ? Promise.resolve(text) : reader.read(wanted)),
    list: async (directory) => {
      if (directory !== posix.dirname(path)) return reader.list(directory)
      const names = await reader.list(directory).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return []
        throw error
      })
      return [...new Set([...names, posix.basename(path)])]
    },
  }
}
