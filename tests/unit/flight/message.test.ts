import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  type Answer,
  encode,
  MOST_FOLLOWERS,
  MOST_HOLDERS,
  MOST_NAMED,
  type Question,
  readAnswer,
  readQuestion,
} from '../../../lib/flight/message.ts'
import { MAX_MESSAGE } from '../../../lib/swarm/members.ts'
import { digest } from '../../fixtures/arbitrary.ts'

const peer = fc.record(
  {
    host: fc.tuple(...Array.from({ length: 4 }, () => fc.nat(255))).map((parts) => parts.join('.')),
    port: fc.integer({ min: 1, max: 65_535 }),
  },
  { noNullPrototype: true },
)
const peers = fc.array(peer, { maxLength: MOST_NAMED })
const bytes = fc.maxSafeNat()
const only = <const Kind extends string>(kind: Kind) => fc.constant(kind)

const question: fc.Arbitrary<Question> = fc.oneof(
  fc.record({ kind: only('ask'), digest, gives: fc.boolean(), leads: fc.boolean(), resumes: fc.boolean(), not: peers }),
  fc.record(
    { kind: only('arriving'), digest, written: bytes, parent: peer, room: fc.nat(MOST_FOLLOWERS) },
    { requiredKeys: ['kind', 'digest', 'written', 'room'] },
  ),
  fc.record(
    { kind: only('gone'), digest, why: fc.constantFrom('refused' as const, 'wrong' as const) },
    { requiredKeys: ['kind', 'digest'] },
  ),
  fc.record({ kind: only('released'), digest }),
  fc.record({ kind: only('state'), digest }),
)
const answer: fc.Arbitrary<Answer> = fc.oneof(
  fc.record(
    {
      ...{ kind: only('place'), holders: fc.array(peer, { maxLength: MOST_HOLDERS }), held: bytes },
      ...{ parent: peer, crowd: bytes, isWhole: fc.boolean(), mustWait: fc.constant(true) },
    },
    { requiredKeys: ['kind', 'holders', 'held', 'crowd', 'isWhole'] },
  ),
  fc.record({
    kind: fc.constantFrom('held' as const, 'gone' as const, 'soon' as const, 'later' as const),
  }),
  fc.record({ kind: only('told'), parent: peer, holder: peer }, { requiredKeys: ['kind'] }),
  fc.record(
    { kind: only('arriving'), written: bytes, size: bytes, leads: fc.boolean() },
    { requiredKeys: ['kind', 'written', 'leads'] },
  ),
) as fc.Arbitrary<Answer>

test('messages of flights are read as they were written, and each is one datagram', () => {
  fc.assert(
    fc.property(question, answer, (asked, answered) => {
      assert.deepEqual(readQuestion(encode(asked)), { ...asked })
      assert.deepEqual(readAnswer(encode(answered)), { ...answered })
      assert.ok(encode(asked).length <= MAX_MESSAGE && encode(answered).length <= MAX_MESSAGE)
    }),
  )
})

test('messages of flights: whatever a member sends is read or refused, and never throws', () => {
  const text = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))
  const torn = fc.tuple(question, fc.nat(200)).map(([asked, length]) => encode(asked).subarray(0, length))
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array(),
        fc.json().map((json) => new TextEncoder().encode(json)),
        torn,
      ),
      (message) => {
        readQuestion(message)
        readAnswer(message)
      },
    ),
  )
  const ask = {
    kind: 'ask',
    digest: `sha256:${'a'.repeat(64)}`,
    gives: true,
    leads: true,
    resumes: false,
    not: [] as string[],
  }
  assert.notEqual(readQuestion(text(ask)), undefined)
  for (const wrong of [
    { ...ask, digest: 'sha256:a' },
    { ...ask, more: 1 },
    { ...ask, gives: 1 },
    { ...ask, not: ['10.0.0.256:1'] },
    { ...ask, not: ['10.0.0.1:0'] },
    { ...ask, not: ['10.0.0.1:65536'] },
    { ...ask, not: ['node:1'] },
    { ...ask, not: Array.from({ length: MOST_NAMED + 1 }, () => '10.0.0.1:1') },
  ]) {
    assert.equal(readQuestion(text(wrong)), undefined, JSON.stringify(wrong))
  }
  const arriving = { kind: 'arriving', digest: ask.digest, written: 1 }
  assert.notEqual(readQuestion(text({ ...arriving, room: MOST_FOLLOWERS })), undefined)
  assert.equal(readQuestion(text({ ...arriving, room: MOST_FOLLOWERS + 1 })), undefined)
})
