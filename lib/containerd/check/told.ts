import * as v from 'valibot'
import { type ContainerdClient, exportsOf, type Plugin } from '../client/client.ts'
import type { CriClient } from '../client/cri.ts'
import { ContainerdError } from '../client/error.ts'
import type { Fact } from '../rule.ts'

/** What a running containerd tells of itself over its socket. */
export interface ContainerdFacts {
  /** Why it cannot be talked to at all; `undefined` if it answers. */
  readonly refusal?: ContainerdError | undefined
  /** As the version service gives it, with or without a `v` and a suffix: `v1.7.24`, `1.7.24~ds1`, `2.2.0-k3s1`. */
  readonly version: Fact<string>
  /** `info["config"]` of CRI `Status(verbose)`, which is JSON; nothing if it was refused. */
  readonly criConfig: string | undefined
  readonly plugins: readonly Plugin[]
}

/**
 * Asks a running containerd what it tells of itself. A part that is refused, or that this version does not have, does not hide
 * the rest.
 *
 * @throws the signal's reason
 */
export async function askContainerd(
  client: Pick<ContainerdClient, 'version' | 'plugins'>,
  cri: Pick<CriClient, 'info'>,
  signal: AbortSignal,
): Promise<ContainerdFacts> {
  const server = await client.version(signal).catch(refused)
  if (server instanceof ContainerdError) {
    return { refusal: server, version: { unreadable: server.message }, criConfig: undefined, plugins: [] }
  }
  const plugins = await client.plugins(signal).catch(refused)
  const info = await cri.info(signal).catch(refused)
  return {
    version: server.version,
    criConfig: info instanceof ContainerdError ? undefined : info.config,
    plugins: plugins instanceof ContainerdError ? [] : plugins,
  }
}

function refused(error: unknown): ContainerdError {
  if (error instanceof ContainerdError) return error
  throw error
}

const TEXT = v.fallback(v.optional(v.string()), undefined)
const FLAG = v.fallback(v.optional(v.boolean()), undefined)
const CRI_CONFIG = v.fallback(
  v.pipe(
    v.string(),
    v.parseJson(),
    v.object({
      registry: v.fallback(v.object({ configPath: TEXT }), {}),
      containerd: v.fallback(v.object({ discardUnpackedLayers: FLAG }), {}),
    }),
  ),
  { registry: {}, containerd: {} },
)

/** The settings that the running containerd tells, with the call that told them; `undefined` where its version does not. */
export type ToldSettings = ReturnType<typeof toldSettings>

/**
 * Picks the settings out of what containerd told. 1.6 and 1.7 put both of CRI's into the JSON of CRI Status. From 2.0 on that
 * has the runtime's alone, and a version after 2.3 exports both from the plugin of images, as texts.
 */
export function toldSettings({ criConfig, plugins }: ContainerdFacts) {
  const byCri = <T>(value: T | undefined) => (value === undefined ? undefined : { value, by: 'CRI Status' })
  const byExport = <T>(value: T | undefined) =>
    value === undefined ? undefined : { value, by: 'containerd introspection' }
  const { registry, containerd } = v.parse(CRI_CONFIG, criConfig)
  const images = exportsOf(plugins, 'io.containerd.cri.v1', 'images')
  const discard = images.DiscardUnpackedLayers
  return {
    configPath: byCri(registry.configPath) ?? byExport(images.RegistryConfigPath),
    discardUnpackedLayers:
      byCri(containerd.discardUnpackedLayers) ??
      byExport(discard === 'true' || (discard === 'false' ? false : undefined)),
  }
}
