import type { ContainerdFacts, PluginFact } from '../containerd-facts.ts'

/** A value as the running containerd tells it, and how it was asked. */
export interface RunningValue<T> {
  readonly value: T
  readonly by: string
}

/** What the running containerd itself tells of the settings; missing where its version does not tell. */
export interface RunningSettings {
  readonly configPath?: RunningValue<string> | undefined
  readonly discardUnpackedLayers?: RunningValue<boolean> | undefined
  readonly sharingPolicy?: RunningValue<string> | undefined
}

const BY_CRI = 'CRI Status'
const BY_PLUGINS = 'containerd introspection'

/**
 * Picks the settings out of what containerd said. 1.6 and 1.7 have both in the JSON of CRI Status; from 2.0 on that has
 * only the runtime's, and a later version exports both from the plugin of images.
 */
export function runningSettings(facts: ContainerdFacts): RunningSettings {
  const cri = 'value' in facts.criConfig ? facts.criConfig.value : undefined
  const plugins = 'value' in facts.plugins ? facts.plugins.value : []
  const images = plugins.find(({ type, id }) => type === 'io.containerd.cri.v1' && id === 'images')
  const bolt = plugins.find(({ type, id }) => type === 'io.containerd.metadata.v1' && id === 'bolt')
  const path = member(member(cri, 'registry'), 'configPath')
  const discard = member(member(cri, 'containerd'), 'discardUnpackedLayers')
  return {
    configPath: typeof path === 'string' ? { value: path, by: BY_CRI } : exported(images, 'RegistryConfigPath'),
    discardUnpackedLayers:
      typeof discard === 'boolean'
        ? { value: discard, by: BY_CRI }
        : asBoolean(exported(images, 'DiscardUnpackedLayers')),
    sharingPolicy: exported(bolt, 'policy'),
  }
}

function member(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
  return (value as Readonly<Record<string, unknown>>)[name]
}

function exported(plugin: PluginFact | undefined, name: string): RunningValue<string> | undefined {
  const value = member(plugin?.exports, name)
  return typeof value === 'string' ? { value, by: BY_PLUGINS } : undefined
}

function asBoolean(text: RunningValue<string> | undefined): RunningValue<boolean> | undefined {
  if (text?.value !== 'true' && text?.value !== 'false') return undefined
  return { value: text.value === 'true', by: text.by }
}
