import type { ConfigFiles } from '../../../../lib/containerd/check/config/load.ts'
import { CONFIG_RULES } from '../../../../lib/containerd/check/config-rules.ts'
import { lookAtConfig } from '../../../../lib/containerd/check/config-view.ts'
import type { Expectation } from '../../../../lib/containerd/check/distributions.ts'
import type { ProbeEvidence } from '../../../../lib/containerd/check/probe.ts'
import { mirrorsInPlace } from '../../../../lib/containerd/check/setting-rules.ts'
import { type Fact, type Finding, findingsOf } from '../../../../lib/containerd/rule.ts'

const NOT_PROBED: ProbeEvidence = { unreadable: 'off' }

/** The findings of the rules on containerd's configuration, by default without a probe. */
export async function checkConfig(
  version: Fact<string>,
  files: ConfigFiles,
  expectation: Expectation,
  probe = NOT_PROBED,
): Promise<{ readonly findings: readonly Finding[]; readonly mirrorsInPlace: boolean }> {
  const config = await lookAtConfig(version, files, expectation)
  const findings = await findingsOf(CONFIG_RULES, { process: undefined, config, probe })
  return { findings, mirrorsInPlace: mirrorsInPlace(config) }
}
