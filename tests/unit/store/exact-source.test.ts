import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { ByteSource } from '../../../lib/platform/byte-source.ts'
import { exactSource } from '../../../lib/store/exact-source.ts'
import { inTime, within } from '../../fixtures/wait.ts'

const never = new AbortController().signal

/** Pieces of these lengths, and how the iterable ended. */
function source(lengths: readonly number[], { endless = false } = {}) {
  const state = { begun: 0, given: 0, aborted: false }
  async function* begin(signal: AbortSignal) {
    state.begun += 1
    signal.addEventListener('abort', () => {
      state.aborted = true
    })
    for (const length of lengths) {
      state.given += 1
      yield new Uint8Array(length).fill(state.given)
    }
    if (endless) await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
  }
  return { state, begin }
}

async function lengthOf(bytes: ByteSource): Promise<number> {
  let length = 0
  for (let piece = await bytes.next(); piece !== undefined; piece = await bytes.next()) length += piece.length
  return length
}

test('exactSource hands on any pieces that add up to its length', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(100)), async (lengths) => {
      const sum = lengths.reduce((total, length) => total + length, 0)
      assert.equal(await lengthOf(exactSource(source(lengths).begin, sum, never)), sum)
    }),
  )
})

test('exactSource fails for missing bytes, and for surplus before it is handed on', async () => {
  await assert.rejects(lengthOf(exactSource(source([3, 4]).begin, 8, never)), /expected 8 bytes, 1 are missing/)
  const { state, begin } = source([3, 4, 5])
  const reader = exactSource(begin, 6, never)
  assert.equal((await reader.next())?.length, 3)
  await assert.rejects(reader.next(), /expected 6 bytes, got more/)
  assert.equal(state.aborted, true)
})

test('exactSource reads nothing before it is read, and nothing ahead', async () => {
  const { state, begin } = source([1, 1, 1])
  const reader = exactSource(begin, 3, never)
  assert.equal(state.begun, 0)
  await reader.next()
  assert.equal(state.given, 1)
  await reader.cancel()
  assert.equal(state.aborted, true)
})

test('exactSource that is cancelled while it waits ends the wait', async () => {
  const { state, begin } = source([1], { endless: true })
  const reader = exactSource(begin, 2, never)
  await reader.next()
  const waiting = reader.next()
  await within('the cancellation', reader.cancel())
  await assert.rejects(within('the end of the read', waiting), inTime)
  assert.equal(state.aborted, true)
})

test('exactSource fails with the reason of its signal, at any time', async () => {
  const reason = new Error('enough')
  const early = source([1])
  await assert.rejects(lengthOf(exactSource(early.begin, 1, AbortSignal.abort(reason))), reason)
  assert.equal(early.state.begun, 0)

  const controller = new AbortController()
  const { begin } = source([1], { endless: true })
  const reader = exactSource(begin, 2, controller.signal)
  await reader.next()
  const waiting = reader.next()
  controller.abort(reason)
  await assert.rejects(within('the end of the read', waiting), reason)
})
