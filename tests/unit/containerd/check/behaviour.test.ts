import assert from 'node:assert/strict'
import { test } from 'node:test'
import { reconcile } from '../../../../lib/containerd/check/behaviour.ts'
import type { ProbeEvidence } from '../../../../lib/containerd/check/probe.ts'
import { probeFindings } from '../../../../lib/containerd/check/probe-findings.ts'
import type { Finding, Severity } from '../../../../lib/containerd/finding.ts'

const finding = (id: string, severity: Severity): Finding => ({ id, severity, seen: id, expected: '', why: '' })
const brief = (findings: readonly Finding[]) => findings.map(({ id, severity }) => `${severity} ${id}`)

const registry = 'probe-0123456789abcdef-5000.swarmirror.invalid'
const asked = { method: 'HEAD', part: 'manifest', ns: registry } as const
const told = { way: 'own', registry, door: 'http://127.0.0.1:5000', timedOut: false } as const
const pulled = { kind: 'pulled', ...told, requests: [asked], layer: 'kept' } as const

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
    { kind: 'failed', ...told, requests: [], error: 'no such host' },
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
    { kind: 'failed', ...told, requests: [], error: 'dial tcp 127.0.0.1:5000: connect: connection refused' },
    ['error probe-mirror-asked', 'unknown probe-layers-kept'],
    /cannot reach it/,
  ],
  [
    'another ns',
    { kind: 'failed', ...told, requests: [{ ...asked, ns: 'proxy.example' }], error: 'not found' },
    ['error probe-mirror-asked', 'unknown probe-layers-kept'],
    /with ns="proxy.example" instead/,
  ],
  [
    'a pull that failed after it was asked for',
    { kind: 'failed', ...told, requests: [asked], error: 'no space left on device' },
    ['ok probe-mirror-asked', 'unknown probe-layers-kept'],
    /no space left/,
  ],
  [
    'no probe',
    { kind: 'impossible', reason: 'off' },
    ['unknown probe-mirror-asked', 'unknown probe-layers-kept'],
    /off/,
  ],
]

for (const [what, evidence, expected, seen] of EVIDENCE) {
  test(`probeFindings of ${what}`, () => {
    const findings = probeFindings(evidence)
    assert.deepEqual(brief(findings), expected)
    assert.match(findings.map((found) => found.seen).join('\n'), seen)
  })
}

test('reconcile makes a warning of an error that was only read, where the probe shows otherwise', () => {
  const read = [finding('registry-config-path', 'error'), finding('discard-unpacked-layers', 'error')]
  const [path, discard] = reconcile(read, probeFindings({ ...pulled, layer: 'loose' }))
  assert.equal(path?.severity, 'warning')
  assert.match(path?.seen ?? '', /but the probe shows that it works now/)
  assert.equal(discard?.severity, 'error')
})

test('reconcile leaves errors of other things, and all where nothing was shown', () => {
  const read = [finding('hosts-toml-missing', 'error'), finding('registry-config-path', 'error')]
  assert.equal(reconcile(read, probeFindings(pulled))[0]?.severity, 'error')
  const unprobed = reconcile(read, probeFindings({ kind: 'impossible', reason: 'off' }))
  assert.deepEqual(
    unprobed.slice(0, 2).map(({ severity }) => severity),
    ['error', 'error'],
  )
})

test('reconcile says where the probe shows to be wrong what reads as right', () => {
  const evidence = { kind: 'failed', ...told, requests: [], error: 'no such host' } as const
  const [read, shown] = reconcile([finding('registry-config-path', 'ok')], probeFindings(evidence))
  assert.equal(read?.severity, 'ok')
  assert.match(shown?.seen ?? '', /registry-config-path reads as right: it counts from containerd’s next start on/)
})
