import { readFile, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { SETTINGS, variableOf } from '../../settings/settings.ts'
import { dialectOf, NEWEST, parseVersion } from '../dialect.ts'
import { type Fact, isUnreadable, type Remedy } from '../rule.ts'
import { type ConfigFiles, type ConfigReader, isMainMissing } from './config/load.ts'
import { linesFor, type MovedSetting, readConfig } from './config/settings.ts'
import { type Expectation, recogniseDistribution } from './distributions.ts'
import type { ProbeEvidence } from './probe.ts'

/** The input of the rules on containerd's configuration. */
export interface ConfigSnapshot {
  /** `undefined` if containerd does not answer, or was not seen to use another file. */
  readonly process: Fact<OtherFile | undefined>
  /** `undefined` if containerd was started with another file, because this one then means nothing. */
  readonly config: ConfigView | undefined
  readonly probe: ProbeEvidence
}

/** containerd's configuration: what its files say, and what the mirror expects. */
export type ConfigView = Awaited<ReturnType<typeof lookAtConfig>>

/**
 * Reads containerd's configuration without changing anything. The result says what could not be read.
 *
 * @param version as the version service reports it, with or without a `v` and a suffix: `v1.7.24`, `1.7.24~ds1`, `2.2.0-k3s1`
 * @param marks finds the marks of distributions, by default the same reader; others often change files in those directories
 */
export async function lookAtConfig(
  version: Fact<string>,
  reader: ConfigFiles,
  expectation: Expectation,
  marks: ConfigReader = reader,
) {
  // The newest containerd also reads the files of older ones.
  const isKnown = !isUnreadable(version) && parseVersion(version) !== undefined
  const reading = await readConfig(reader, isKnown ? dialectOf(version) : NEWEST)
  const distribution = await recogniseDistribution(marks, reader.path, reading.files[0]?.text)
  return {
    ...reading,
    version,
    isKnown,
    distribution,
    expectation,
  }
}

/** A file that containerd was started with in place of the one that the check reads. */
type OtherFile = NonNullable<Awaited<ReturnType<typeof lookAtProcess>>>

/** A flag of containerd, in every form that Go accepts. */
const CONFIG_FLAG = /^--?(?:config|c)(?:=(.*))?$/s

/**
 * Looks at containerd's process if it is visible, which it is not from a container without the node's processes. Compares files by
 * what the paths lead to, since a container may see them elsewhere.
 *
 * @param configFile the file that the check reads
 * @param proc the directory of processes; tests use another one
 * @returns the file that containerd was started with, if it is another one
 */
export async function lookAtProcess(pid: number, configFile: string, proc = '/proc') {
  const process = join(proc, String(pid))
  const [program = '', ...args] = (await readFile(join(process, 'cmdline'), 'utf8').catch(() => '')).split('\0')
  // In another PID namespace, the number belongs to another process.
  if (!basename(program).startsWith('containerd')) return undefined
  let told: string = SETTINGS['containerd-config'].default
  for (const [at, arg] of args.entries()) {
    const [flag, value] = CONFIG_FLAG.exec(arg) ?? []
    if (flag !== undefined) told = value ?? args[at + 1] ?? told
  }
  const used = told.startsWith('/') ? await identityOf(join(process, 'root', told)) : undefined
  const another = used !== undefined && used !== (await identityOf(configFile))
  return another ? { pid, configFile, startedWith: told } : undefined
}

/** Identifies a file; `undefined` for a missing or inaccessible one, of which the check says nothing. */
async function identityOf(path: string): Promise<string | undefined> {
  return await stat(path).then(
    ({ dev, ino }) => `${dev}:${ino}`,
    () => undefined,
  )
}

/** The command that makes containerd read its files again. Running containers do not notice, because their shims keep them. */
export function restartOf(view: ConfigView | undefined): string {
  return view?.distribution?.restart ?? 'systemctl restart containerd'
}

/** What sets something if the distribution itself writes containerd's file. */
export function remedyByDistribution(
  view: ConfigView,
  name: MovedSetting,
  value: string | boolean,
): Remedy | undefined {
  const { distribution, expectation } = view
  if (distribution?.place === undefined) return undefined
  const { text, file, lines } = distribution.place
  const settings = lines?.(expectation.registryDoor) ?? linesFor(name, value, view)?.lines
  return { text, file, lines: settings, command: distribution.restart }
}

/** Makes this program look at the distribution's paths; `undefined` if it does so already, or if there is nothing to look at. */
export function remedyForPaths({ distribution, problems }: ConfigView): Remedy | undefined {
  const problem = problems.find(isMainMissing)
  if (distribution === undefined || problem === undefined) return undefined
  const { name, settings = {} } = distribution
  const lines = Object.entries(settings).map(([setting, path]) => `${variableOf(setting)}=${path}`)
  const used = settings['containerd-config'] === problem.file
  return used || lines.length === 0 ? undefined : { text: `give swarmirror the paths of ${name}`, lines }
}
