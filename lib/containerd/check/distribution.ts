import { type SettingName, variableOf } from '../../settings/settings.ts'
import type { Dialect } from '../dialect.ts'
import type { Remedy } from '../finding.ts'
import type { LoadedConfig } from './config/load.ts'
import { IMAGES_PLUGIN, OLD_PLUGIN } from './config/merge.ts'

/** Where a node keeps what the mirror needs. */
export interface NodePaths {
  readonly configFile: string
  readonly certsDir: string
  readonly socket: string
}

/** What a remedy depends on besides the distribution. */
export interface Situation {
  /** Whether this containerd's files of this version name the plugin of 1.x or that of 2.x. */
  readonly plugin: 'old' | 'images'
  readonly certsDir: string
  /** Host and port of the registry door. */
  readonly registryDoor: string
}

/** A distribution of Kubernetes that a node gives away. What it comes with and what must be added is in the README. */
export interface Distribution extends NodePaths {
  readonly name: string
  /** Paths and contents of containerd's main file of which one gives it away. */
  readonly marks: { readonly paths: readonly string[]; readonly content?: RegExp }
  /** What to do where containerd's file must not be edited by hand, because the distribution writes it. */
  readonly remedy?: ((situation: Situation) => Remedy) | undefined
  /** What makes containerd read its files again; `systemctl restart containerd` if missing. */
  readonly restart?: string | undefined
}

/** containerd by itself, from Debian or its own releases. */
export const PLAIN_PATHS: NodePaths = {
  configFile: '/etc/containerd/config.toml',
  certsDir: '/etc/containerd/certs.d',
  socket: '/run/containerd/containerd.sock',
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

/** Restarting containerd leaves running containers alone: their shims keep them. */
const RESTART = 'systemctl restart containerd'

/** What makes containerd read its files again. */
export function restartOf(distribution: Distribution | undefined): string {
  return distribution?.restart ?? RESTART
}

/** What a remedy of a distribution depends on. */
export function situationOf(view: {
  readonly files: LoadedConfig['files']
  readonly dialect: Dialect
  readonly expectation: Omit<Situation, 'plugin'>
}): Situation {
  const { certsDir, registryDoor } = view.expectation
  const plugin = view.dialect.migration === 'none' || view.files[0]?.version === 2 ? 'old' : 'images'
  return { plugin, certsDir, registryDoor }
}

/** What makes this program look where the distribution has everything; `undefined` if it does, or if there is nothing to look at. */
export function remedyForPaths({
  distribution,
  problems,
}: {
  readonly distribution: Distribution | undefined
  readonly problems: LoadedConfig['problems']
}): Remedy | undefined {
  const [problem] = problems
  if (distribution === undefined || problem?.kind !== 'missing' || problem.importedBy !== undefined) return undefined
  const lines = settingsFor(distribution).map(({ name, value }) => `${variableOf(name)}=${value}`)
  const used = distribution.configFile === problem.file
  return used || lines.length === 0 ? undefined : { text: `give swarmirror the paths of ${distribution.name}`, lines }
}

/** The settings that differ from their defaults on such a node. */
export function settingsFor({ configFile, certsDir, socket }: NodePaths): { name: SettingName; value: string }[] {
  const all = [
    { name: 'containerd-config', value: configFile, fallback: PLAIN_PATHS.configFile },
    { name: 'certs-dir', value: certsDir, fallback: PLAIN_PATHS.certsDir },
    { name: 'containerd-socket', value: socket, fallback: PLAIN_PATHS.socket },
  ] as const
  return all.filter(({ value, fallback }) => value !== fallback).map(({ name, value }) => ({ name, value }))
}
