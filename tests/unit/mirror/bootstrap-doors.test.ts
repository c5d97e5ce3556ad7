import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findingsOf } from '../../../lib/containerd/rule.ts'
import { type AskedDoor, DOOR_RULES, type DoorAnswer } from '../../../lib/mirror/bootstrap-doors.ts'

/** Doors with these answers, each at its own address. */
const doorsOf = (...answers: DoorAnswer[]): AskedDoor[] =>
  answers.map((answer, index) => ({ host: `10.0.0.${index + 2}`, answer }))

const KEY = '10.0.0.2 refuses this swarm key'

for (const [answers, bootstrap, key, transfer] of [
  [[], 'unknown', 'unknown', 'unknown'],
  [['accepts', 'silent'], 'ok', 'ok', 'ok'],
  [['silent', 'silent'], 'warning', 'unknown', 'unknown'],
  [['late'], 'ok', 'unknown', 'unknown'],
  [['refuses', 'silent'], 'ok', 'error', 'unknown'],
  [['refuses', 'accepts'], 'ok', 'warning', 'ok'],
  [['differs', 'silent'], 'ok', 'unknown', 'error'],
  [['differs', 'accepts'], 'ok', 'ok', 'warning'],
] as const) {
  test(`doors of the bootstrap addresses: of ${answers.join(', ') || 'none'}, check finds what that means`, async () => {
    const findings = await findingsOf(DOOR_RULES, { doors: doorsOf(...answers), transfer: 'tls' })
    assert.deepEqual(
      findings.map(({ id, severity }) => [id, severity]),
      [
        ['bootstrap', bootstrap],
        ['swarm-key', key],
        ['peer-transfer', transfer],
      ],
    )
    const saying = findings
      .filter(({ severity }) => severity === 'error')
      .map(({ seen, remedy }) => [seen, remedy?.text])
    for (const [seen, remedy] of saying) assert.ok(seen && remedy)
    if (answers[0] === 'refuses') assert.equal(findings[1]?.seen, KEY)
  })
}

test('doors of the bootstrap addresses: several are named together', async () => {
  const findings = await findingsOf(DOOR_RULES, { doors: doorsOf('refuses', 'refuses'), transfer: 'plain' })
  assert.equal(findings[1]?.seen, '10.0.0.2, 10.0.0.3 refuse this swarm key')
  const [, , transfer] = await findingsOf(DOOR_RULES, { doors: doorsOf('differs'), transfer: 'plain' })
  assert.equal(transfer?.seen, '10.0.0.2 speaks TLS, and this node plain HTTP: --peer-transfer differs')
})
