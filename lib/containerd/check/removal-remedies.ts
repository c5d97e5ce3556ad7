import { planElementRemoval, planRemoval } from '../../toml/patch.ts'
import type { Remedy } from '../finding.ts'
import type { IgnoredSetting } from './config/effective.ts'
import { isTable, lookup } from './config/load.ts'
import { IMAGES_PLUGIN, OLD_PLUGIN } from './config/merge.ts'
import { type PlannedChange, planChange } from './config/reading.ts'
import type { ConfigCheck } from './config-check.ts'
import { RESTART, situationOf } from './remedies.ts'
import { whereOf } from './rules.ts'

/** What takes the tables of the old kind away. */
export async function remedyForLegacy(check: ConfigCheck, configPathSet: boolean): Promise<Remedy | undefined> {
  const { readings, dialect, files, distribution } = check
  const text = 'delete the table, and put its endpoints into hosts.toml files'
  const settings = readings.all[0]?.settings
  const command = distribution?.restart ?? RESTART
  if (settings?.mirrors === undefined) {
    return { text: `${text} (${whereOf(settings?.configsTls)})`, ...withoutTls(check), command }
  }
  if (!configPathSet) return { text: 'follow the remedy of registry-config-path, which takes the table away too' }
  if (distribution?.remedy !== undefined) return distribution.remedy(situationOf(check))
  const value = settings.configPath.value
  if (typeof value !== 'string') return { text }
  const change = await planChange({ name: 'config_path', value, withoutMirrors: true }, readings, files, dialect)
  return { text, ...change, command }
}

/** The change that takes every `tls` below `registry.configs` away, in the first file that has one. */
function withoutTls({ readings }: ConfigCheck): Partial<PlannedChange> {
  for (const { path: file, text, table } of readings.loaded.files) {
    const tables = ['cri', OLD_PLUGIN, IMAGES_PLUGIN].flatMap((id) => {
      const path = ['plugins', id, 'registry', 'configs']
      const configs = lookup(table, ...path)?.value
      return isTable(configs) ? [...configs.keys()].map((name) => [...path, name, 'tls']) : []
    })
    const edits = tables.flatMap((path) => planRemoval(text, path) ?? [])
    if (edits.length > 0) return { file, edits }
  }
  return {}
}

/** What takes a setting away that has no effect. */
export function remedyForIgnored({ source, path }: IgnoredSetting, { readings }: ConfigCheck): Remedy {
  const text = `delete ${whereOf(source)}, which misleads its readers; what is missing elsewhere is told by itself`
  const file = readings.loaded.files.find((candidate) => candidate.path === source.file)
  const edits = file === undefined ? undefined : planRemoval(file.text, path)
  return edits === undefined ? { text } : { text, file: source.file, edits }
}

/** What lets CRI be loaded. */
export function remedyForDisabledCri(plugin: string, { readings, distribution }: ConfigCheck): Remedy {
  const text = 'take it out of disabled_plugins, if this is a node of Kubernetes'
  const command = distribution?.restart ?? RESTART
  for (const file of readings.loaded.files) {
    const edits = planElementRemoval(file.text, 'disabled_plugins', plugin)
    if (edits !== undefined) return { text, file: file.path, edits, command }
  }
  return { text, command }
}
