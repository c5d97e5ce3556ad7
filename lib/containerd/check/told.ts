import type { ContainerdClient, Plugin } from '../client/client.ts'
import type { CriClient } from '../client/cri.ts'
import { ContainerdError } from '../client/error.ts'
import type { Fact } from '../rule.ts'

/** What a running containerd tells of itself over its socket. */
export interface ContainerdFacts {
  /** Why it cannot be talked to at all; `undefined` if it answers. */
  readonly refusal?: ContainerdError | undefined
  /** As the version service gives it, with or without a `v` and a suffix: `v1.7.24`, `1.7.24~ds1`, `2.2.0-k3s1`. */
  readonly version: Fact<string>
  /** `info["config"]` of CRI `Status(verbose)`, parsed; nothing if it was refused. */
  readonly criConfig: unknown
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
    criConfig: info instanceof ContainerdError ? undefined : parsed(info.config),
    plugins: plugins instanceof ContainerdError ? [] : plugins,
  }
}

function refused(error: unknown): ContainerdError {
  if (error instanceof ContainerdError) return error
  throw error
}

/** Nothing for what is no JSON. */
function parsed(text = 'null'): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** A value as the running containerd tells it, and which call told it. */
export interface ToldValue<T> {
  readonly value: T
  readonly by: string
}

/** The settings that the running containerd tells; missing where its version does not. */
export interface ToldSettings {
  readonly configPath: ToldValue<string> | undefined
  readonly discardUnpackedLayers: ToldValue<boolean> | undefined
  readonly sharingPolicy: ToldValue<string> | undefined
}

const BY_CRI = 'CRI Status'
const BY_EXPORTS = 'containerd introspection'

/**
 * Picks the settings out of what containerd told. 1.6 and 1.7 put both of CRI's into the JSON of CRI Status. From 2.0 on that
 * has the runtime's alone, and a version after 2.3 exports both from the plugin of images, as texts.
 */
export function toldSettings({ criConfig, plugins }: ContainerdFacts): ToldSettings {
  const exportOf = (type: string, id: string, name: string) =>
    member(plugins.find((plugin) => plugin.type === type && plugin.id === id)?.exports, name)
  const discard = exportOf('io.containerd.cri.v1', 'images', 'DiscardUnpackedLayers')
  return {
    configPath:
      told(isText, BY_CRI, member(member(criConfig, 'registry'), 'configPath')) ??
      told(isText, BY_EXPORTS, exportOf('io.containerd.cri.v1', 'images', 'RegistryConfigPath')),
    discardUnpackedLayers:
      told(isBoolean, BY_CRI, member(member(criConfig, 'containerd'), 'discardUnpackedLayers')) ??
      told(isBoolean, BY_EXPORTS, discard === 'true' || (discard === 'false' ? false : undefined)),
    sharingPolicy: told(isText, BY_EXPORTS, exportOf('io.containerd.metadata.v1', 'bolt', 'policy')),
  }
}

const isText = (value: unknown) => typeof value === 'string'
const isBoolean = (value: unknown) => typeof value === 'boolean'

function told<T>(is: (value: unknown) => value is T, by: string, value: unknown): ToldValue<T> | undefined {
  return is(value) ? { value, by } : undefined
}

function member(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
  return (value as Readonly<Record<string, unknown>>)[name]
}
