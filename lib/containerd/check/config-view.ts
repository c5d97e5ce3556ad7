import { readFile, readlink, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import * as v from 'valibot'
import { SETTINGS } from '../../settings/settings.ts'
import { type ContainerdClient, exportsOf, type Plugin } from '../client/client.ts'
import type { CriClient } from '../client/cri.ts'
import { ContainerdError } from '../client/error.ts'
import { dialectOf, parseVersion } from '../dialect.ts'
import { type Fact, isUnreadable } from '../rule.ts'
import type { ConfigReader } from './config/glob.ts'
import type { ConfigFiles } from './config/load.ts'
import { readConfig } from './config/settings.ts'
import { type Expectation, recogniseDistribution } from './distributions.ts'
import type { ProbeEvidence } from './probe.ts'

/** What the rules on containerd's configuration read. */
export interface ConfigSnapshot {
  /** `undefined` where containerd does not answer. */
  readonly process: Fact<ProcessView> | undefined
  /** `undefined` where containerd was started with another file: what this one says then means nothing. */
  readonly config: ConfigView | undefined
  readonly probe: ProbeEvidence
}

/** containerd's configuration: what its files say, what it tells of them while it runs, and what is expected. */
export type ConfigView = Awaited<ReturnType<typeof lookAtConfig>>

/**
 * Reads containerd's configuration without touching anything. What cannot be read is told in the result.
 *
 * @param marks finds what gives a distribution away, if not the same reader: its directories are full of what others change
 */
export async function lookAtConfig(
  facts: ContainerdFacts,
  reader: ConfigFiles,
  expectation: Expectation,
  marks: ConfigReader = reader,
) {
  const { version } = facts
  const known = isUnreadable(version) || parseVersion(version) === undefined ? undefined : version
  const readAs = known ?? (await guessVersion(reader))
  // Where versions differ in this, a list is right on some and wrong on others.
  const dialect = known === undefined ? { ...dialectOf(readAs), splitsConfigPath: false } : dialectOf(known)
  const reading = await readConfig(reader, dialect)
  const distribution = await recogniseDistribution(marks, reader.path, reading.files[0]?.text)
  return {
    ...reading,
    version,
    /** The version by whose rules the files were read: another one than containerd's only if that is not known. */
    readAs,
    told: toldSettings(facts),
    distribution,
    expectation,
  }
}

/** A version that writes its main file as this one is written. */
async function guessVersion(reader: ConfigFiles): Promise<string> {
  const { files } = await readConfig(reader, dialectOf('2.3.0'))
  return ['1.7.24', '1.7.24', '1.7.24', '2.2.0'][files[0]?.version ?? 0] ?? '2.3.0'
}

/** What can be seen of containerd's process. */
export interface ProcessView {
  /** As containerd tells it. */
  readonly pid: number
  /** The file that is read here. */
  readonly configFile: string
  /** The file that containerd was started with, if that is another one. */
  readonly startedWith: string | undefined
  /** Whether this process sees the same files by the same paths as containerd: not from a container, as far as can be told. */
  readonly seesAll: boolean
}

/** A flag of containerd's, in every way in which Go takes it. */
const CONFIG_FLAG = /^--?(?:config|c)(?:=(.*))?$/s

/**
 * Looks at containerd's process, as far as it can be seen: from a container without the node's processes it cannot. Files are
 * compared by what the paths lead to, since a container may see them elsewhere.
 *
 * @param proc where processes are found; another directory in tests
 */
export async function lookAtProcess(pid: number, configFile: string, proc = '/proc'): Promise<ProcessView> {
  const process = join(proc, String(pid))
  const [program = '', ...args] = (await readFile(join(process, 'cmdline'), 'utf8').catch(() => '')).split('\0')
  // In another namespace of processes, that number is somebody else's.
  if (!basename(program).startsWith('containerd')) return { pid, configFile, startedWith: undefined, seesAll: false }
  const [view, own] = [await viewOf(process), await viewOf(join(proc, 'self'))]
  let told: string = SETTINGS['containerd-config'].default
  for (const [at, arg] of args.entries()) {
    const [flag, value] = CONFIG_FLAG.exec(arg) ?? []
    if (flag !== undefined) told = value ?? args[at + 1] ?? told
  }
  const used = told.startsWith('/') ? await identityOf(join(process, 'root', told)) : undefined
  const another = used !== undefined && used !== (await identityOf(configFile))
  return { pid, configFile, startedWith: another ? told : undefined, seesAll: view !== undefined && view === own }
}

/** What tells the views of two processes apart: their mounts, and where they see the root of them. */
async function viewOf(process: string): Promise<string | undefined> {
  const mounts = await readlink(join(process, 'ns', 'mnt')).catch(() => undefined)
  const root = await identityOf(join(process, 'root'))
  return mounts === undefined || root === undefined ? undefined : `${mounts} ${root}`
}

/** Tells files apart; `undefined` for what is not there, or must not be looked at: nothing is said of that. */
async function identityOf(path: string): Promise<string | undefined> {
  return await stat(path).then(
    ({ dev, ino }) => `${dev}:${ino}`,
    () => undefined,
  )
}

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
