import type { ContainerdFacts } from '../../../../lib/containerd/check/config-view.ts'

/** What a containerd says that tells its version and nothing else, as 2.0 to 2.3 do. */
export function silentFacts(version: string): ContainerdFacts {
  return { version, criConfig: '{"containerd":{}}', plugins: [] }
}

/** What 1.6 and 1.7 say in CRI Status. */
export function criFacts(version: string, configPath: string, discardUnpackedLayers: boolean): ContainerdFacts {
  const criConfig = JSON.stringify({ containerd: { discardUnpackedLayers }, registry: { configPath } })
  return { version, criConfig, plugins: [] }
}
