import { type Dialect, dialectOf, parseVersion } from './config/dialect.ts'
import type { FileReader } from './config/files.ts'
import { type Readings, readSettings } from './config/reading.ts'
import { type RunningSettings, runningSettings } from './config/running.ts'
import type { ContainerdFacts } from './containerd-facts.ts'
import type { Distribution } from './distribution.ts'
import { recogniseDistribution } from './distributions.ts'
import type { Finding } from './finding.ts'
import {
  remedyForConfigPath,
  remedyForDiscard,
  remedyForLegacy,
  remedyForProblem,
  remedyForRefusal,
} from './remedies.ts'
import {
  type Expectation,
  judgeConfigPath,
  judgeDiscard,
  judgeLegacy,
  judgeProblem,
  judgeSharing,
  whereOf,
} from './rules.ts'
import { agreed, judgeSetting } from './verdicts.ts'

export type { Expectation } from './rules.ts'

/** containerd's files as this process sees them. */
export interface ConfigFiles extends FileReader {
  /** Path of containerd's configuration file. */
  readonly path: string
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
): Promise<Finding[]> {
  const findings: Finding[] = []
  const told = 'value' in facts.version ? facts.version.value : undefined
  const version = told === undefined ? undefined : parseVersion(told)
  const dialect = version === undefined ? await guessDialect(files) : dialectOf(version)
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
  const distribution = await recogniseDistribution(files, mainText)
  const check = { dialect, readings, running: runningSettings(facts), expectation, files, distribution }
  findings.push(distributionFinding(distribution), ...(await fileFindings(check)))
  findings.push(...(await settingFindings(check)))
  return findings
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
  const second = dialectOf({ major: 2, minor: 2, patch: 0 })
  const { loaded } = await readSettings(files.path, files, second)
  const guess = (loaded.files[0]?.version ?? 0) >= 3 ? second : dialectOf({ major: 1, minor: 7, patch: 24 })
  return { ...guess, splitsConfigPath: false }
}

function distributionFinding(distribution: Distribution | undefined): Finding {
  return {
    id: 'distribution',
    severity: 'ok',
    seen: distribution === undefined ? 'no distribution with settings of its own' : distribution.name,
    expected: 'any; it decides where settings belong',
    why: 'a distribution may write containerd’s configuration itself',
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

async function settingFindings(check: ConfigCheck): Promise<Finding[]> {
  const { running, readings } = check
  const findings = [await configPathFinding(check), await discardFinding(check)]
  if (readings.loaded.files.length > 0) {
    findings.push(await legacyFinding(check), ...ignoredFindings(check), ...disabledFindings(check))
  }
  const sharing = judgeSetting(readings, {
    running: running.sharingPolicy,
    of: ({ settings }) => settings.sharingPolicy,
    judge: (told) => judgeSharing(told, check.expectation),
  })
  findings.push({
    id: 'content-sharing-policy',
    ...sharing,
    expected: 'shared, or isolated with the right namespace',
    why: sharing.why ?? 'with isolated, content that was pulled in one namespace is not there in another',
    remedy: sharing.severity === 'error' ? { text: 'write "shared" or "isolated"' } : undefined,
  })
  return findings
}

async function configPathFinding(check: ConfigCheck): Promise<Finding> {
  const { running, expectation, dialect, readings } = check
  const verdict = judgeSetting(readings, {
    running: running.configPath,
    of: ({ settings }) => settings.configPath,
    judge: (told, reading) => judgeConfigPath(told, expectation, dialect, reading?.settings ?? { localPull: false }),
  })
  const finding: Finding = {
    id: 'registry-config-path',
    ...verdict,
    expected: dialect.splitsConfigPath
      ? `${expectation.certsDir} among its directories`
      : `${expectation.certsDir} alone`,
    why: verdict.why ?? 'containerd looks for hosts.toml nowhere else, so it would never ask the mirror',
  }
  if (verdict.severity === 'ok' || (verdict.severity === 'unknown' && readings.loaded.files.length === 0))
    return finding
  return { ...finding, remedy: await remedyForConfigPath(check) }
}

async function discardFinding(check: ConfigCheck): Promise<Finding> {
  const { running, readings } = check
  const verdict = judgeSetting(readings, {
    running: running.discardUnpackedLayers,
    of: ({ settings }) => settings.discardUnpackedLayers,
    judge: judgeDiscard,
  })
  const finding: Finding = {
    id: 'discard-unpacked-layers',
    ...verdict,
    expected: 'false',
    why: verdict.why ?? 'containerd would throw the layers away once they are unpacked, and leave none to share',
  }
  if (verdict.severity === 'ok' || (verdict.severity === 'unknown' && readings.loaded.files.length === 0))
    return finding
  return { ...finding, remedy: await remedyForDiscard(check) }
}

async function legacyFinding(check: ConfigCheck): Promise<Finding> {
  const { dialect, readings } = check
  const set = readings.all.some(({ settings }) => settings.configPath.value !== '')
  const verdict = agreed(readings.all.map(({ settings }) => judgeLegacy(settings, set, dialect, check.expectation)))
  return {
    id: 'legacy-registry-config',
    ...verdict,
    expected: 'hosts.toml files in place of registry.mirrors and registry.configs',
    why: verdict.why ?? 'containerd takes either the old tables or config_path',
    remedy: verdict.severity === 'ok' ? undefined : await remedyForLegacy(check, set),
  }
}

function ignoredFindings({ readings }: ConfigCheck): Finding[] {
  // Told only if no way of reading takes it into account.
  const [first, ...others] = readings.all
  const ignored = (first?.settings.ignored ?? []).filter(({ source }) =>
    others.every(({ settings }) => settings.ignored.some((other) => sameSource(other.source, source))),
  )
  return ignored.map(({ name, source, because }) => ({
    id: 'ignored-setting',
    severity: 'warning',
    seen: `${name} = ${JSON.stringify(source.value)} (${whereOf(source)}) has no effect`,
    expected: 'settings where this containerd looks for them',
    why: because,
    remedy: {
      text: `delete ${whereOf(source)}, which misleads its readers; what is missing elsewhere is told by itself`,
    },
  }))
}

function sameSource(a: { file: string; line: number }, b: { file: string; line: number }): boolean {
  return a.file === b.file && a.line === b.line
}

function disabledFindings({ readings }: ConfigCheck): Finding[] {
  const plugin = readings.all[0]?.settings.disabledCri
  if (plugin === undefined) return []
  return [
    {
      id: 'cri-disabled',
      severity: 'warning',
      seen: `disabled_plugins has ${JSON.stringify(plugin)}`,
      expected: 'CRI enabled, on a node of Kubernetes',
      why: 'without CRI containerd uses hosts.toml for clients only that name the directory themselves (ctr --hosts-dir)',
      remedy: { text: 'take it out of disabled_plugins, if this is a node of Kubernetes' },
    },
  ]
}
