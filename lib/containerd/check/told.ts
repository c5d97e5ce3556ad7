import type { ContainerdClient, Plugin } from '../client/client.ts'
import type { CriClient } from '../client/cri.ts'
import { ContainerdError } from '../client/error.ts'
import { type Fact, isUnreadable } from '../rule.ts'

/** What a running containerd tells of itself over its socket. */
export interface ContainerdFacts {
  /** As the version service gives it, with or without a `v` and a suffix: `v1.7.24`, `1.7.24~ds1`, `2.2.0-k3s1`. */
  readonly version: Fact<string>
  /** `info["config"]` of CRI `Status(verbose)`, parsed; nothing if it was refused. */
  readonly criConfig: unknown
  readonly plugins: readonly Plugin[]
}

/**
 * Asks a running containerd what it tells of itself. Each part is asked for on its own, so that a part that is refused, or
 * that this version does not have, does not hide the rest.
 *
 * @throws the signal's reason
 */
export async function askContainerd(
  client: Pick<ContainerdClient, 'version' | 'plugins'>,
  cri: Pick<CriClient, 'info'>,
  signal: AbortSignal,
): Promise<ContainerdFacts> {
  const [version, criConfig, plugins] = await Promise.all([
    unlessRefused(async () => (await client.version(signal)).version),
    unlessRefused(async () => JSON.parse((await cri.info(signal)).config ?? 'null') as unknown),
    unlessRefused(() => client.plugins(signal)),
  ])
  signal.throwIfAborted()
  return { version, criConfig, plugins: isUnreadable(plugins) ? [] : plugins }
}

async function unlessRefused<T>(ask: () => Promise<T>): Promise<Fact<T>> {
  try {
    return await ask()
  } catch (error) {
    if (error instanceof ContainerdError || error instanceof SyntaxError) return { unreadable: error.message }
    throw error
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

/**
 * Picks the settings out of what containerd told. 1.6 and 1.7 put both of CRI's into the JSON of CRI Status. From 2.0 on that
 * has the runtime's alone, and a version after 2.3 exports both from the plugin of images.
 */
export function toldSettings({ criConfig, plugins }: ContainerdFacts): ToldSettings {
  const byCri = (...path: string[]) => {
    const value = path.reduce(member, criConfig)
    return value === undefined ? undefined : { value, by: 'CRI Status' }
  }
  const exported = (type: string, id: string, name: string) => {
    const value = member(plugins.find((plugin) => plugin.type === type && plugin.id === id)?.exports, name)
    return value === undefined ? undefined : { value, by: 'containerd introspection' }
  }
  const path = byCri('registry', 'configPath') ?? exported('io.containerd.cri.v1', 'images', 'RegistryConfigPath')
  const discard =
    byCri('containerd', 'discardUnpackedLayers') ?? exported('io.containerd.cri.v1', 'images', 'DiscardUnpackedLayers')
  return {
    configPath: asText(path),
    discardUnpackedLayers: asBoolean(discard),
    sharingPolicy: asText(exported('io.containerd.metadata.v1', 'bolt', 'policy')),
  }
}

function member(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
  return (value as Readonly<Record<string, unknown>>)[name]
}

function asText(told: ToldValue<unknown> | undefined): ToldValue<string> | undefined {
  return typeof told?.value === 'string' ? { value: told.value, by: told.by } : undefined
}

/** Exports are texts, JSON has booleans. */
function asBoolean(told: ToldValue<unknown> | undefined): ToldValue<boolean> | undefined {
  const text = String(told?.value)
  return told !== undefined && (text === 'true' || text === 'false')
    ? { value: text === 'true', by: told.by }
    : undefined
}
