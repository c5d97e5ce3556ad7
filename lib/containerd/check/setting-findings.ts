import type { Finding } from '../finding.ts'
import type { Reading } from './config/reading.ts'
import type { ConfigCheck } from './config-check.ts'
import { remedyForConfigPath, remedyForDiscard, remedyForSharing } from './remedies.ts'
import { remedyForDisabledCri, remedyForIgnored, remedyForLegacy } from './removal-remedies.ts'
import { judgeConfigPath, judgeDiscard, judgeLegacy, judgeSharing, whereOf } from './rules.ts'
import { agreed, judgeSetting } from './verdicts.ts'

/** What containerd's settings are, by what runs and by the files, each with what makes it right. */
export async function settingFindings(check: ConfigCheck): Promise<Finding[]> {
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
    remedy: sharing.severity === 'error' ? remedyForSharing(check) : undefined,
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
  if (verdict.severity === 'ok') return finding
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
  const isSet = ({ settings }: Reading) => settings.configPath.value !== ''
  const verdict = agreed(readings.all.map(({ settings }) => judgeLegacy(settings, dialect, check.expectation)))
  return {
    id: 'legacy-registry-config',
    ...verdict,
    expected: 'hosts.toml files in place of registry.mirrors and registry.configs',
    why: verdict.why ?? 'containerd takes either the old tables or config_path',
    remedy: verdict.severity === 'ok' ? undefined : await remedyForLegacy(check, readings.all.every(isSet)),
  }
}

function ignoredFindings(check: ConfigCheck): Finding[] {
  // Told only if no way of reading takes it into account.
  const [first, ...others] = check.readings.all
  const ignored = (first?.settings.ignored ?? []).filter(({ source }) =>
    others.every(({ settings }) => settings.ignored.some((other) => sameSource(other.source, source))),
  )
  return ignored.map((setting) => ({
    id: 'ignored-setting',
    severity: 'warning',
    seen: `${setting.name} = ${JSON.stringify(setting.source.value)} (${whereOf(setting.source)}) has no effect`,
    expected: 'settings where this containerd looks for them',
    why: setting.because,
    remedy: remedyForIgnored(setting, check),
  }))
}

function sameSource(a: { file: string; line: number }, b: { file: string; line: number }): boolean {
  return a.file === b.file && a.line === b.line
}

function disabledFindings(check: ConfigCheck): Finding[] {
  const plugin = check.readings.all[0]?.settings.disabledCri
  if (plugin === undefined) return []
  return [
    {
      id: 'cri-disabled',
      severity: 'warning',
      seen: `disabled_plugins has ${JSON.stringify(plugin)}`,
      expected: 'CRI enabled, on a node of Kubernetes',
      why: 'without CRI containerd uses hosts.toml for clients only that name the directory themselves (ctr --hosts-dir)',
      remedy: remedyForDisabledCri(plugin, check),
    },
  ]
}
