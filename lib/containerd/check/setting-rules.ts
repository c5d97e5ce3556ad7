import { planRemoval, planSetting } from '../../toml/patch.ts'
import { listOf, type TomlEntry, type TomlValue } from '../../toml/toml.ts'
import { type Remedy, type Rule, rule, type Verdict } from '../rule.ts'
import { CRI_PLUGINS, type MovedSetting, planChange } from './config/settings.ts'
import type { ConfigSnapshot, ConfigView } from './config-view.ts'
import { remedyByDistribution, restartOf } from './distributions.ts'
import { keepsLayers } from './probe.ts'

/** `/etc/containerd/config.toml line 12`, or the version's default. */
export function whereOf(source: TomlEntry | undefined): string {
  return source === undefined ? "this version's default" : `${source.file} line ${source.line}`
}

/** Judges the value of a setting; `where` describes its source. */
export type Judge = (value: TomlValue, where: string) => Verdict

/** The verdict on a setting by containerd's files. The probe shows what really happens. */
export function judgeSetting(view: ConfigView, name: MovedSetting, judge: Judge): Verdict {
  const [problem] = view.problems
  if (problem !== undefined) {
    return {
      severity: 'unknown',
      seen: `not all of containerd's files can be read: ${problem.file}: ${problem.reason}`,
    }
  }
  const { value, source } = view.settings[name]
  return judge(value, whereOf(source))
}

export const withFiles = ({ config }: ConfigSnapshot) =>
  config === undefined || config.files.length === 0 ? undefined : config

/** Makes containerd keep its layers. */
async function remedyForDiscard(view: ConfigView): Promise<Remedy> {
  const text =
    'turn discard_unpacked_layers off; images that were pulled before must be pulled again to be shared whole'
  const change = await planChange('discardUnpackedLayers', false, view)
  return remedyByDistribution(view) ?? { text, ...change, command: restartOf(view) }
}

/** Makes containerd load CRI. */
function remedyForDisabledCri(view: ConfigView): Remedy {
  const told = { text: 'remove it from disabled_plugins, if this is a Kubernetes node', command: restartOf(view) }
  for (const { path: file, text, table } of view.files) {
    const listed = (listOf(table.get('disabled_plugins')) ?? []).map(({ value }) => String(value))
    const left = listed.filter((id) => !CRI_PLUGINS.includes(id))
    const edits = left.length < listed.length ? planSetting(text, ['disabled_plugins'], left) : undefined
    if (edits !== undefined) return { ...told, file, edits }
  }
  return told
}

export const DISCARD_LAYERS = rule({
  id: 'discard-unpacked-layers',
  reads: ({ config }: ConfigSnapshot) => config,
  judges: discardVerdict,
  expected: 'discard_unpacked_layers is false',
  why: 'containerd would throw the layers away once they are unpacked, and keep none to share',
  remedy: (config, { severity }) =>
    severity === 'unknown' && config.files.length === 0 ? undefined : remedyForDiscard(config),
  // The files tell only where to look, and what may happen at containerd's next start.
  provenBy: ({ probe }) => keepsLayers(probe),
  proofIsEnough: true,
})

/** Judges discard_unpacked_layers by the files alone. */
export function discardVerdict(view: ConfigView): Verdict {
  return judgeSetting(view, 'discardUnpackedLayers', (value, where) => {
    const seen = `discard_unpacked_layers is ${String(value)} (${where})`
    if (typeof value === 'boolean') return { severity: value ? 'error' : 'ok', seen }
    return { severity: 'error', seen: `discard_unpacked_layers is not a boolean (${where})` }
  })
}

export const OTHER_SETTINGS: readonly Rule<ConfigSnapshot>[] = [
  rule({
    id: 'ignored-setting',
    reads: withFiles,
    judges: ({ settings, files }) =>
      settings.ignored.map(({ source, path, because }) => {
        const { text = '' } = files.find(({ path }) => path === source.file) ?? {}
        const edits = planRemoval(text, path)
        return {
          severity: 'warning',
          seen: `${path.at(-1)} = ${JSON.stringify(source.value)} (${whereOf(source)}) has no effect`,
          why: because,
          remedy: {
            text: `delete ${whereOf(source)}, which misleads whoever reads it; other findings say what is missing elsewhere`,
            ...(edits === undefined ? {} : { file: source.file, edits }),
          },
        }
      }),
    expected: 'settings where this containerd looks for them',
    why: 'containerd does not look there',
  }),

  rule({
    id: 'cri-disabled',
    reads: withFiles,
    judges: ({ settings: { disabledCri } }) =>
      disabledCri === undefined
        ? []
        : { severity: 'warning', seen: `disabled_plugins has ${JSON.stringify(disabledCri)}` },
    expected: 'CRI is enabled on a Kubernetes node',
    why: 'without CRI, containerd uses hosts.toml only for clients that name the directory themselves (ctr --hosts-dir)',
    remedy: remedyForDisabledCri,
  }),
]
