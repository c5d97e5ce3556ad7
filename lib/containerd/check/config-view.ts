import { readFile, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { SETTINGS } from '../../settings/settings.ts'
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

/** containerd's configuration: what its files say, and what is expected. */
export type ConfigView = Awaited<ReturnType<typeof lookAtConfig>>

/**
 * Reads containerd's configuration without touching anything. What cannot be read is told in the result.
 *
 * @param version as the version service gives it, with or without a `v` and a suffix: `v1.7.24`, `1.7.24~ds1`, `2.2.0-k3s1`
 * @param marks finds what gives a distribution away, if not the same reader: its directories are full of what others change
 */
export async function lookAtConfig(
  version: Fact<string>,
  reader: ConfigFiles,
  expectation: Expectation,
  marks: ConfigReader = reader,
) {
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
  if (!basename(program).startsWith('containerd')) return { pid, configFile, startedWith: undefined }
  let told: string = SETTINGS['containerd-config'].default
  for (const [at, arg] of args.entries()) {
    const [flag, value] = CONFIG_FLAG.exec(arg) ?? []
    if (flag !== undefined) told = value ?? args[at + 1] ?? told
  }
  const used = told.startsWith('/') ? await identityOf(join(process, 'root', told)) : undefined
  const another = used !== undefined && used !== (await identityOf(configFile))
  return { pid, configFile, startedWith: another ? told : undefined }
}

/** Tells files apart; `undefined` for what is not there, or must not be looked at: nothing is said of that. */
async function identityOf(path: string): Promise<string | undefined> {
  return await stat(path).then(
    ({ dev, ino }) => `${dev}:${ino}`,
    () => undefined,
  )
}
