import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { QuestionSeal } from '../../../../lib/swarm/members/question-seal.ts'
import type { NodeAddress } from '../../../../lib/swarm/node.ts'

const KEY = new Uint8Array(32).fill(1)
const NEXT = new Uint8Array(32).fill(2)
const A: NodeAddress = { host: '10.0.0.1', port: 5001 }
const B: NodeAddress = { host: '10.0.0.2', port: 5001 }
const C: NodeAddress = { host: '10.0.0.2', port: 5002 }
const message = fc.uint8Array({ maxLength: 64 })
const plain = (bytes: Uint8Array | undefined) => bytes && Uint8Array.from(bytes)

test('QuestionSeal opens questions and answers of members, also while the swarm key changes', () => {
  const rings = [[KEY], [KEY, NEXT], [NEXT, KEY], [NEXT]] as const
  fc.assert(
    fc.property(message, message, fc.nat(2), fc.boolean(), (question, answer, step, isLater) => {
      const [one, other] = [rings[step], rings[step + 1]] as [(typeof rings)[number], (typeof rings)[number]]
      const asker = new QuestionSeal(isLater ? other : one, A)
      const asked = new QuestionSeal(isLater ? one : other, B)
      const sealed = asker.seal(question, B)
      const opened = asked.open(sealed.bytes, A)
      assert.deepEqual(plain(opened?.bytes), question)
      assert.deepEqual(plain(opened && sealed.open(opened.seal(answer))), answer)
    }),
  )
})

test('QuestionSeal opens nothing from or for another address, of another key, for another question, or sent back', () => {
  const [a, b] = [new QuestionSeal([KEY], A), new QuestionSeal([KEY], B)]
  const [stranger, other] = [new QuestionSeal([NEXT], A), new QuestionSeal([KEY], C)]
  fc.assert(
    fc.property(message, (question) => {
      const [sealed, again] = [a.seal(question, B), a.seal(question, B)]
      const opened = b.open(sealed.bytes, A)
      const answer = opened?.seal(question)
      assert.ok(answer !== undefined)
      const wrong = [
        b.open(sealed.bytes, B),
        b.open(sealed.bytes, C),
        other.open(sealed.bytes, A),
        a.open(sealed.bytes, B),
        b.open(stranger.seal(question, B).bytes, A),
        again.open(answer),
        sealed.open(sealed.bytes),
        b.open(answer, A),
      ]
      assert.deepEqual(wrong, new Array(wrong.length).fill(undefined))
    }),
  )
})

test('QuestionSeal opens nothing that was changed, or is anything else', () => {
  const [a, b] = [new QuestionSeal([KEY], A), new QuestionSeal([KEY], B)]
  fc.assert(
    fc.property(message, fc.nat(), fc.integer({ min: 1, max: 255 }), message, (question, place, change, noise) => {
      const changed = (bytes: Uint8Array) =>
        bytes.map((byte, at) => (at === place % bytes.length ? byte ^ change : byte))
      const sealed = a.seal(question, B)
      const answer = b.open(sealed.bytes, A)?.seal(question)
      assert.ok(answer !== undefined)
      assert.equal(b.open(changed(sealed.bytes), A), undefined)
      assert.equal(sealed.open(changed(answer)), undefined)
      assert.equal(b.open(noise, A), undefined)
      assert.equal(sealed.open(noise), undefined)
    }),
  )
})
