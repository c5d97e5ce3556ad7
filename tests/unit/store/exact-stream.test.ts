import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { exactStream } from '../../../lib/store/exact-stream.ts'
import { within } from '../../fixtures/wait.ts'

const never = new AbortController().signal

/** Pieces of these lengths, and what became of them. */
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

async function lengthOf(stream: ReadableStream<Uint8Array>): Promise<number> {
  let length = 0
  for await (const piece of stream) length += piece.length
  return length
}

test('exactStream hands on any pieces that add up to its length', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(100)), async (lengths) => {
      const sum = lengths.reduce((total, length) => total + length, 0)
      assert.equal(await lengthOf(exactStream(source(lengths).begin, sum, never)), sum)
    }),
  )
})

test('exactStream fails for missing bytes, and for surplus before it is handed on', async () => {
  await assert.rejects(lengthOf(exactStream(source([3, 4]).begin, 8, never)), /expected 8 bytes, 1 are missing/)
  const { state, begin } = source([3, 4, 5])
  const reader = exactStream(begin, 6, never).getReader()
  assert.equal((await reader.read()).value?.length, 3)
  await assert.rejects(reader.read(), /expected 6 bytes, got more/)
  assert.equal(state.aborted, true)
})

test('exactStream reads nothing before it is read, and nothing ahead', async () => {
  const { state, begin } = source([1, 1, 1])
  const reader = exactStream(begin, 3, never).getReader()
  assert.equal(state.begun, 0)
  await reader.read()
  assert.equal(state.given, 1)
  await reader.cancel()
  assert.equal(state.aborted, true)
})

test('exactStream that is cancelled while it waits ends the wait', async () => {
  const { state, begin } = source([1], { endless: true })
  const reader = exactStream(begin, 2, never).getReader()
  await reader.read()
  const waiting = reader.read()
  await within('the cancellation', reader.cancel())
  assert.equal((await within('the end of the read', waiting)).done, true)
  assert.equal(state.aborted, true)
})

test('exactStream fails with the reason of its signal, at any time', async () => {
  const reason = new Error('enough')
  const early = source([1])
  await assert.rejects(lengthOf(exactStream(early.begin, 1, AbortSignal.abort(reason))), reason)
  assert.equal(early.state.begun, 0)

  const controller = new AbortController()
  const { begin } = source([1], { endless: true })
  const reader = exactStream(begin, 2, controller.signal).getReader()
  await reader.read()
  const waiting = reader.read()
  controller.abort(reason)
  await assert.rejects(within('the end of the read', waiting), reason)
})
