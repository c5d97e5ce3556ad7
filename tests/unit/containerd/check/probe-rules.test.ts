import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ConfigView, lookAtConfig } from '../../../../lib/containerd/check/config-view.ts'
import type { ProbeEvidence } from '../../../../lib/containerd/check/probe.ts'
import { PROBE_RULES } from '../../../../lib/containerd/check/probe-rules.ts'
import { type Finding, findingsOf } from '../../../../lib/containerd/rule.ts'
import { checkConfig } from './checked-config.ts'
import { memoryFiles } from './memory-files.ts'

const probeFindings = (probe: ProbeEvidence, config?: ConfigView) => findingsOf(PROBE_RULES, { probe, config })
const brief = (findings: readonly Finding[]) => findings.map(({ id, severity }) => `${severity} ${id}`)

const registry = 'probe-0123456789abcdef-5000.swarmirror.invalid'
const asked = { method: 'HEAD', part: 'manifest', ns: registry } as const
const told = { way: 'own', registry, door: 'http://127.0.0.1:5000' } as const
const pulled = { ...told, requests: [asked], layer: 'kept' } as const

const EVIDENCE: readonly [what: string, evidence: ProbeEvidence, expected: readonly string[], seen: RegExp][] = [
  [
    'a whole pull',
    pulled,
    ['ok probe-mirror-asked', 'ok probe-layers-kept'],
    /asked http:\/\/127\.0\.0\.1:5000 .*1 HEAD/,
  ],
  ['by _default', { ...pulled, way: '_default' }, ['ok probe-mirror-asked', 'ok probe-layers-kept'], /in _default/],
  [
    'a loose layer',
    { ...pulled, layer: 'loose' },
    ['ok probe-mirror-asked', 'error probe-layers-kept'],
    /nothing refers/,
  ],
  [
    'a layer that is gone',
    { ...pulled, layer: 'gone' },
    ['ok probe-mirror-asked', 'error probe-layers-kept'],
    /is not in/,
  ],
  [
    'a lazy pull',
    { ...pulled, layer: 'never fetched' },
    ['ok probe-mirror-asked', 'error probe-layers-kept'],
    /without fetching/,
  ],
  [
    'no request',
    { ...told, requests: [], error: 'no such host' },
    ['error probe-mirror-asked', 'unknown probe-layers-kept'],
    /did not ask .*no such host/,
  ],
  [
    'a pull that somebody else served',
    { ...pulled, requests: [] },
    ['error probe-mirror-asked', 'ok probe-layers-kept'],
    /as if another server/,
  ],
  [
    'a door out of reach',
    { ...told, requests: [], error: 'dial tcp 127.0.0.1:5000: connect: connection refused' },
    ['error probe-mirror-asked', 'unknown probe-layers-kept'],
    /cannot reach it/,
  ],
  [
    'another ns',
    { ...told, requests: [{ ...asked, ns: 'proxy.example' }], error: 'not found' },
    ['error probe-mirror-asked', 'unknown probe-layers-kept'],
    /with ns="proxy.example" instead/,
  ],
  [
    'a pull that failed after it was asked for',
    { ...told, requests: [asked], error: 'no space left on device' },
    ['ok probe-mirror-asked', 'unknown probe-layers-kept'],
    /no space left/,
  ],
  ['no probe', { unreadable: 'off' }, ['unknown probe-mirror-asked', 'unknown probe-layers-kept'], /off/],
]

for (const [what, evidence, expected, seen] of EVIDENCE) {
  test(`a probe that saw ${what}`, async () => {
    const findings = await probeFindings(evidence)
    assert.deepEqual(brief(findings), expected)
    assert.match(findings.map((found) => found.seen).join('\n'), seen)
  })
}

const RIGHT = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/etc/containerd/certs.d"\n'
const WRONG = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd]\ndiscard_unpacked_layers = true\n'
const EXPECTATION = { certsDir: '/etc/containerd/certs.d', registryDoor: '127.0.0.1:5000' }

/** The findings in containerd's file beside a probe. */
async function besideProbe(text: string, evidence: ProbeEvidence): Promise<ReadonlyMap<string, Finding>> {
  const files = memoryFiles({ '/etc/containerd/config.toml': text })
  const { findings } = await checkConfig('1.7.24', files, EXPECTATION, evidence)
  return new Map(findings.map((finding) => [finding.id, finding]))
}

test('an error in a file is a warning if the probe shows that it works', async () => {
  const findings = await besideProbe(WRONG, { ...pulled, layer: 'loose' })
  const path = findings.get('registry-config-path')
  assert.equal(path?.severity, 'warning')
  assert.match(path?.seen ?? '', /but the probe shows that it works now/)
  assert.equal(findings.get('discard-unpacked-layers')?.severity, 'error')
})

test('other findings stay beside a probe, and all stay if there was no probe', async () => {
  const disabled = `disabled_plugins = ["io.containerd.grpc.v1.cri"]\n${WRONG}`
  assert.equal((await besideProbe(disabled, pulled)).get('cri-disabled')?.severity, 'warning')
  const unprobed = await besideProbe(WRONG, { unreadable: 'off' })
  for (const id of ['registry-config-path', 'discard-unpacked-layers']) {
    assert.equal(unprobed.get(id)?.severity, 'error')
  }
})

test('a fault that the probe shows says so if the files look right', async () => {
  const files = memoryFiles({ '/etc/containerd/config.toml': RIGHT })
  const config = await lookAtConfig('1.7.24', files, EXPECTATION)
  const notAsked = { ...told, requests: [], error: 'no such host' } as const
  const [asked] = await probeFindings(notAsked, config)
  assert.match(
    asked?.seen ?? '',
    /registry-config-path looks right in the files: they count from containerd’s next start on/,
  )
  const [, kept] = await probeFindings({ ...pulled, layer: 'gone' }, config)
  assert.match(
    kept?.seen ?? '',
    /discard-unpacked-layers looks right in the files: they count from containerd’s next start on/,
  )
  assert.equal((await besideProbe(RIGHT, notAsked)).get('registry-config-path')?.severity, 'ok')
})
