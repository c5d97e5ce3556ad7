import type { TomlEntry } from '../../toml/toml.ts'
import { type Remedy, rule, type Verdict } from '../rule.ts'
import { linesFor } from './config/settings.ts'
import type { ConfigSnapshot, ConfigView } from './config-view.ts'
import { remedyByDistribution, restartOf } from './distributions.ts'
import { keepsLayers } from './probe.ts'

/** `/etc/containerd/config.toml line 12`, or the version's default. */
export function whereOf(source: TomlEntry | undefined): string {
  return source === undefined ? "this version's default" : `${source.file} line ${source.line}`
}

/** The verdict if a file may set something else than what was read. The probe shows what really happens. */
export function unlessAllRead({ problems: [problem] }: ConfigView): Verdict | undefined {
  if (problem === undefined) return undefined
  const seen = `not all of containerd's files can be read: ${problem.file}: ${problem.reason}`
  return { severity: 'unknown', seen }
}

export const withFiles = ({ config }: ConfigSnapshot) =>
  config === undefined || config.files.length === 0 ? undefined : config

/** What to do with the lines of a remedy. */
export const SET_THESE =
  'set this: change the line that sets it now, or add it to this table, and make the table if it is not there'

/** What makes containerd keep its layers. */
function remedyForDiscard(view: ConfigView): Remedy {
  const text = `${SET_THESE}; images that were pulled before must be pulled again to be shared whole`
  const set = ['discardUnpackedLayers', false] as const
  return remedyByDistribution(view, ...set) ?? { text, ...linesFor(...set, view), command: restartOf(view) }
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
  const unread = unlessAllRead(view)
  if (unread !== undefined) return unread
  const { value, source } = view.settings.discardUnpackedLayers
  const where = whereOf(source)
  if (typeof value !== 'boolean') {
    return { severity: 'error', seen: `discard_unpacked_layers is not a boolean (${where})` }
  }
  return { severity: value ? 'error' : 'ok', seen: `discard_unpacked_layers is ${value} (${where})` }
}

export const CRI_ENABLED = rule({
  id: 'cri-disabled',
  reads: withFiles,
  judges: ({ settings: { disabledCri } }) =>
    disabledCri.length === 0 ? [] : { severity: 'warning', seen: `disabled_plugins has ${quoted(disabledCri)}` },
  expected: 'CRI is enabled on a Kubernetes node',
  why: 'without CRI, containerd uses hosts.toml only for clients that name the directory themselves (ctr --hosts-dir)',
  remedy: (view) => ({
    text: `remove ${quoted(view.settings.disabledCri)} from disabled_plugins, if this is a Kubernetes node`,
    command: restartOf(view),
  }),
})

function quoted(ids: readonly string[]): string {
  return ids.map((id) => JSON.stringify(id)).join(' and ')
}
