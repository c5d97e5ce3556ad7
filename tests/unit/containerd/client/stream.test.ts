import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openStream } from '../../../../lib/containerd/client/stream.ts'
import { waitFor } from '../../../fixtures/wait.ts'

const never = new AbortController().signal
const unbounded = { signal: never, stallTimeout: undefined }

/** Some messages, then silence until the signal aborts. */
function call(...messages: readonly number[]) {
  const state = { begun: 0, aborted: false }
  const begin = (signal: AbortSignal): AsyncIterable<number> => {
    signal.addEventListener('abort', () => {
      state.aborted = true
    })
    return {
      async *[Symbol.asyncIterator]() {
        state.begun += 1
        yield* messages
        signal.throwIfAborted()
        await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
      },
    }
  }
  return { state, begin }
}

test('openStream begins the call before anybody reads', async () => {
  const { state, begin } = call(1)
  const stream = openStream('Test', begin, unbounded)
  await waitFor('the call has begun', () => state.begun === 1)
  stream.cancel()
  assert.equal(state.aborted, true)
})

test('openStream cancels the call when the loop is left', async () => {
  const { state, begin } = call(1, 2, 3)
  const seen: number[] = []
  for await (const message of openStream('Test', begin, unbounded)) {
    seen.push(message)
    if (message === 2) break
  }
  assert.deepEqual(seen, [1, 2])
  assert.equal(state.aborted, true)
})

test('openStream ends with the reason of its signal', async () => {
  const { state, begin } = call(1)
  const controller = new AbortController()
  const reason = new Error('enough')
  const stream = openStream('Test', begin, { signal: controller.signal, stallTimeout: undefined })
  await assert.rejects(async () => {
    for await (const _message of stream) controller.abort(reason)
  }, reason)
  assert.equal(state.aborted, true)
})

test('openStream does not begin a call whose signal has aborted', async () => {
  const { state, begin } = call(1)
  const reason = new Error('too late')
  const stream = openStream('Test', begin, { signal: AbortSignal.abort(reason), stallTimeout: undefined })
  await assert.rejects(stream[Symbol.asyncIterator]().next(), reason)
  assert.equal(state.begun, 0)
})

test('openStream gives up a call that falls silent, and cancels it', async () => {
  const { state, begin } = call(1)
  const seen: number[] = []
  await assert.rejects(
    async () => {
      for await (const message of openStream('Test', begin, { signal: never, stallTimeout: 20 })) seen.push(message)
    },
    { name: 'ContainerdError', code: 'timeout', message: 'containerd Test: no message for 20 ms' },
  )
  assert.deepEqual(seen, [1])
  assert.equal(state.aborted, true)
})

test('openStream does not count the time that the reader takes', async () => {
  const { begin } = call(1, 2, 3)
  const seen: number[] = []
  for await (const message of openStream('Test', begin, { signal: never, stallTimeout: 20 })) {
    seen.push(message)
    const since = performance.now()
    await waitFor('longer than the stall', () => performance.now() - since > 40)
    if (message === 3) break
  }
  assert.deepEqual(seen, [1, 2, 3])
})

test('openStream keeps a failure for the reader', async () => {
  const failing = async function* () {
    yield* [] as number[]
    throw new Error('broken at once')
  }
  const stream = openStream('Test', failing, unbounded)
  // An unhandled rejection would end the process before this.
  await waitFor(
    'a few turns of the event loop',
    (() => {
      let turns = 0
      return () => turns++ > 2
    })(),
  )
  await assert.rejects(stream[Symbol.asyncIterator]().next(), { code: 'unexpected', message: /broken at once/ })
})
