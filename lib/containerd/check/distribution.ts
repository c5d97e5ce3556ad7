import { variableOf } from '../../settings/settings.ts'
import type { Remedy } from '../finding.ts'
import { isMainMissing } from './config/load.ts'
import { IMAGES_PLUGIN, OLD_PLUGIN } from './config/merge.ts'
import type { ConfigReading } from './config/settings.ts'

/** What the mirror needs of containerd. */
export interface Expectation {
  /** Directory of the hosts.toml files, as containerd sees it. */
  readonly certsDir: string
  /** containerd namespace whose images are mirrored. */
  readonly namespace: string
  /** Host and port of the registry door, as containerd reaches it. */
  readonly registryDoor: string
}

/** What a remedy depends on besides the distribution. */
export interface Situation extends Omit<Expectation, 'namespace'> {
  /** Whether this containerd's files of this version name the plugin of 1.x or that of 2.x. */
  readonly plugin: 'old' | 'images'
}

/** A distribution of Kubernetes that a node gives away. What it comes with and what must be added is in the README. */
export interface Distribution {
  readonly name: string
  /** The paths on such a node, where they are not the defaults of swarmirror's settings. */
  readonly settings?: Partial<Record<'containerd-config' | 'certs-dir' | 'containerd-socket', string>>
  /** Paths and contents of containerd's main file of which one gives it away. */
  readonly marks: { readonly paths: readonly string[]; readonly content?: RegExp }
  /** What to do where containerd's file must not be edited by hand, because the distribution writes it. */
  readonly remedy?: ((situation: Situation) => Remedy) | undefined
  /** What makes containerd read its files again; `systemctl restart containerd` if missing. */
  readonly restart?: string | undefined
}

/** The two settings as TOML, for a distribution that merges it into a file of its own key by key. */
export function settingsToml(situation: Situation): string[] {
  const id = situation.plugin === 'old' ? OLD_PLUGIN : IMAGES_PLUGIN
  const path = `  config_path = ${JSON.stringify(situation.certsDir)}`
  return [`[plugins."${id}".registry]`, path, ...layersToml(situation)]
}

function layersToml({ plugin }: Situation): string[] {
  const table = plugin === 'old' ? `[plugins."${OLD_PLUGIN}".containerd]` : `[plugins."${IMAGES_PLUGIN}"]`
  return [table, '  discard_unpacked_layers = false']
}

/** Lines further to the right, for a block text in YAML. */
export const indented = (lines: readonly string[], by: number) => lines.map((line) => `${' '.repeat(by)}${line}`)

/** What Kind's cluster configuration must have; a cluster that is there already must be made again. */
export function kindConfig(situation: Situation): string[] {
  return [
    'kind: Cluster',
    'apiVersion: kind.x-k8s.io/v1alpha4',
    'containerdConfigPatches:',
    '  - |-',
    ...indented(settingsToml(situation), 4),
  ]
}

/** What Talos' machine configuration must have. */
export function talosPatch(situation: Situation): string[] {
  return [
    'machine:',
    '  files:',
    '    - path: /etc/cri/conf.d/20-customization.part',
    '      op: create',
    '      content: |',
    ...indented(layersToml(situation), 8),
  ]
}

/** What makes containerd read its files again. Containers that run do not notice: their shims keep them. */
export function restartOf(view: DistributionView | undefined): string {
  return view?.distribution?.restart ?? 'systemctl restart containerd'
}

/** containerd's configuration, as far as its distribution's remedies depend on it. */
interface DistributionView extends ConfigReading {
  readonly distribution: Distribution | undefined
  readonly expectation: Expectation
}

/** What to do where the distribution writes containerd's file itself. */
export function remedyByDistribution(view: DistributionView): Remedy | undefined {
  const { distribution, expectation, dialect, files } = view
  const plugin = dialect.migration === 'none' || files[0]?.version === 2 ? 'old' : 'images'
  return distribution?.remedy?.({ ...expectation, plugin })
}

/** What makes this program look where the distribution has everything; `undefined` if it does, or if there is nothing to look at. */
export function remedyForPaths({ distribution, problems }: DistributionView): Remedy | undefined {
  const problem = problems.find(isMainMissing)
  if (distribution === undefined || problem === undefined) return undefined
  const { name, settings = {} } = distribution
  const lines = Object.entries(settings).map(([setting, path]) => `${variableOf(setting)}=${path}`)
  const used = settings['containerd-config'] === problem.file
  return used || lines.length === 0 ? undefined : { text: `give swarmirror the paths of ${name}`, lines }
}
