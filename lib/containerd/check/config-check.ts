import { type Dialect, dialectOf, parseVersion } from '../dialect.ts'
import type { Finding } from '../finding.ts'
import type { FileReader } from './config/files.ts'
import { type Readings, readSettings } from './config/reading.ts'
import { type RunningSettings, runningSettings } from './config/running.ts'
import type { ContainerdFacts } from './containerd-facts.ts'
import type { Distribution } from './distribution.ts'
import { recogniseDistribution } from './distributions.ts'
import { remedyForPaths, remedyForProblem, remedyForRefusal } from './remedies.ts'
import { type Expectation, judgeProblem, mirrorsInPlace } from './rules.ts'
import { settingFindings } from './setting-findings.ts'

export type { Expectation } from './rules.ts'

/** containerd's files as this process sees them. */
export interface ConfigFiles extends FileReader {
  /** Path of containerd's configuration file. */
  readonly path: string
  /** Finds what gives a distribution away, if not the same reader: its directories are full of what others change. */
  readonly marks?: FileReader
}

/** What was found in the configuration, and what the rest of a check depends on. */
export interface ConfigResult {
  readonly findings: readonly Finding[]
  /** Whether containerd asks the mirror by `registry.mirrors`, so that no hosts.toml counts. */
  readonly mirrorsInPlace: boolean
}

/**
 * Checks containerd's own configuration without touching anything: what the running containerd tells where its version
 * tells, else what it would read from its files. It throws nothing of its own; what cannot be read is a finding.
 *
 * @param facts what was asked over the socket
 * @param files containerd's files
 */
export async function checkConfig(
  facts: ContainerdFacts,
  files: ConfigFiles,
  expectation: Expectation,
): Promise<ConfigResult> {
  const findings: Finding[] = []
  const told = 'value' in facts.version ? facts.version.value : undefined
  const version = told === undefined ? undefined : parseVersion(told)
  const dialect = version === undefined ? await guessDialect(files) : dialectOf(told)
  if (version === undefined) {
    const reason = 'unreadable' in facts.version ? facts.version.unreadable : `${JSON.stringify(told)} is no version`
    findings.push({
      id: 'containerd-version',
      severity: 'unknown',
      seen: `containerd's version could not be read: ${reason}`,
      expected: 'a version such as 1.7.24 or 2.2.0',
      why: `its configuration was read by the rules of ${dialect.migration === 'none' ? '1.7' : '2.2'}, as its version field suggests`,
    })
  } else {
    findings.push({
      id: 'containerd-version',
      severity: 'ok',
      seen: `containerd ${told}`,
      expected: 'containerd 1.6 or later',
      why: 'the rules of its configuration depend on it',
    })
  }
  const readings = await readSettings(files.path, files, dialect)
  const mainText = readings.loaded.files[0]?.text
  const distribution = await recogniseDistribution({ ...(files.marks ?? files), path: files.path }, mainText)
  const check = { dialect, readings, running: runningSettings(facts), expectation, files, distribution }
  findings.push(distributionFinding(check), ...(await fileFindings(check)))
  findings.push(...(await settingFindings(check)))
  const inPlace = readings.all.every(({ settings }) => mirrorsInPlace(settings, expectation))
  return { findings, mirrorsInPlace: readings.loaded.files.length > 0 && inPlace }
}

/** What all parts of a check have before them. */
export interface ConfigCheck {
  readonly dialect: Dialect
  readonly readings: Readings
  readonly running: RunningSettings
  readonly expectation: Expectation
  readonly files: ConfigFiles
  readonly distribution: Distribution | undefined
}

/** Without a version: what the main file's own version field suggests, and the stricter rule where versions differ. */
async function guessDialect(files: ConfigFiles): Promise<Dialect> {
  const second = dialectOf('2.2.0')
  const { loaded } = await readSettings(files.path, files, second)
  const guess = (loaded.files[0]?.version ?? 0) >= 3 ? second : dialectOf('1.7.24')
  return { ...guess, splitsConfigPath: false }
}

function distributionFinding(check: ConfigCheck): Finding {
  const { distribution, files } = check
  const rule = { id: 'distribution', why: 'a distribution may write containerd’s configuration itself' }
  const remedy = remedyForPaths(check)
  if (distribution === undefined || remedy === undefined) {
    const seen = distribution?.name ?? 'no distribution with settings of its own'
    return { ...rule, severity: 'ok', seen, expected: 'any; it decides where settings belong' }
  }
  return {
    ...rule,
    severity: 'error',
    seen: `${distribution.name}, and no ${files.path}`,
    expected: `the paths of ${distribution.name}`,
    why: `${distribution.name} has containerd’s socket and files elsewhere: what is looked for here is not there`,
    remedy,
  }
}

async function fileFindings(check: ConfigCheck): Promise<Finding[]> {
  const { readings, running, files } = check
  const { loaded, all } = readings
  const toldAll = running.configPath !== undefined && running.discardUnpackedLayers !== undefined
  const findings = loaded.problems
    .filter((problem) => !(problem.kind === 'missing' && problem.importedBy === undefined && toldAll))
    .map(
      (problem): Finding => ({
        id: 'containerd-config-file',
        ...judgeProblem(problem),
        expected: 'every file of containerd’s configuration is there and can be read',
        why: 'containerd does not start with a file that it cannot read',
        remedy: remedyForProblem(problem, check),
      }),
    )
  const refusals = all.flatMap(({ config }) => (config.refusal === undefined ? [] : [config.refusal]))
  const [refusal] = refusals
  if (refusal !== undefined) {
    findings.push({
      id: 'containerd-config-version',
      severity: refusals.length === all.length ? 'error' : 'unknown',
      seen: refusal,
      expected: 'files of a version that this containerd reads, with ids as that version writes them',
      why: 'containerd does not start with anything else',
      remedy: remedyForRefusal(files.path),
    })
  }
  if (findings.length === 0 && loaded.files.length > 0) {
    findings.push({
      id: 'containerd-config-file',
      severity: 'ok',
      seen: `read ${loaded.files.map(({ path }) => path).join(', ')}`,
      expected: 'every file of containerd’s configuration is there and can be read',
      why: 'the settings below come from them',
    })
  }
  return findings
}
