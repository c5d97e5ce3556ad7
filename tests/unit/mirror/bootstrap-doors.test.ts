import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findingsOf } from '../../../lib/containerd/rule.ts'
import { type AskedDoor, DOOR_RULES, type DoorAnswer } from '../../../lib/mirror/bootstrap-doors.ts'

/** Doors with these answers, each at its own address. */
const doorsOf = (...answers: DoorAnswer[]): AskedDoor[] =>
  answers.map((answer, index) => ({ host: `10.0.0.${index + 2}`, answer }))

const KEY = '10.0.0.2 refuses this node: its swarm key or --peer-transfer differs'

for (const [answers, bootstrap, key] of [
  [[], 'unknown', 'unknown'],
  [['accepts', 'silent'], 'ok', 'ok'],
  [['silent', 'silent'], 'warning', 'unknown'],
  [['late'], 'ok', 'unknown'],
  [['refuses', 'silent'], 'ok', 'error'],
  [['refuses', 'accepts'], 'ok', 'warning'],
] as const) {
  test(`doors of the bootstrap addresses: of ${answers.join(', ') || 'none'}, check finds what that means`, () => {
    const findings = findingsOf(DOOR_RULES, doorsOf(...answers))
    assert.deepEqual(
      findings.map(({ id, severity }) => [id, severity]),
      [
        ['bootstrap', bootstrap],
        ['swarm-key', key],
      ],
    )
    for (const { severity, seen, remedy } of findings) if (severity === 'error') assert.ok(seen && remedy?.text)
    if (answers[0] === 'refuses') assert.equal(findings[1]?.seen, KEY)
  })
}

test('doors of the bootstrap addresses: several are named together', () => {
  const [, key] = findingsOf(DOOR_RULES, doorsOf('refuses', 'refuses'))
  assert.equal(key?.seen, '10.0.0.2, 10.0.0.3 refuse this node: its swarm key or --peer-transfer differs')
})
