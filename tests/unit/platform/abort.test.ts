import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bounded, onAbort, orAborted, unlessAborted } from '../../../lib/platform/abort.ts'

const never = new Promise<never>(() => undefined)

test('onAbort runs once, at once for a signal that has aborted, and not after it was disposed of', () => {
  const controller = new AbortController()
  const runs: string[] = []
  {
    using _ = onAbort(controller.signal, () => runs.push('disposed'))
  }
  onAbort(controller.signal, () => runs.push('waiting'))
  controller.abort()
  controller.abort()
  onAbort(controller.signal, () => runs.push('late'))
  assert.deepEqual(runs, ['waiting', 'late'])
})

test('bounded returns the result of the work, and aborts its signal neither during the work nor after it', async () => {
  let given: AbortSignal | undefined
  const work = async (signal: AbortSignal) => {
    given = signal
    return 1
  }
  const controller = new AbortController()
  assert.equal(await bounded(60_000, controller.signal, work), 1)
  controller.abort()
  assert.equal(given?.aborted, false)
})

test('bounded aborts the work after its time, or with the reason of the signal from outside', async () => {
  const wait = (signal: AbortSignal) => unlessAborted(never, signal)
  await assert.rejects(bounded(1, undefined, wait), { name: 'TimeoutError', message: 'not done within 1 ms' })
  const reason = new Error('the client has left')
  const controller = new AbortController()
  const left = bounded(60_000, controller.signal, wait)
  controller.abort(reason)
  await assert.rejects(left, reason)
  await assert.rejects(bounded(60_000, controller.signal, wait), reason)
})

test('unlessAborted returns the value of the promise, or throws the reason of the signal', async () => {
  const controller = new AbortController()
  assert.equal(await unlessAborted(Promise.resolve(1), controller.signal), 1)
  await assert.rejects(unlessAborted(Promise.reject(new Error('failed')), controller.signal), /failed/)
  const reason = new Error('enough')
  const waiting = unlessAborted(never, controller.signal)
  controller.abort(reason)
  await assert.rejects(waiting, reason)
})

test('orAborted returns the value of the promise, or nothing once the signal aborts, and hides no failure', async () => {
  const controller = new AbortController()
  assert.equal(await orAborted(Promise.resolve(1), controller.signal), 1)
  await assert.rejects(orAborted(Promise.reject(new Error('failed')), controller.signal), /failed/)
  const waiting = orAborted(never, controller.signal)
  controller.abort()
  assert.equal(await waiting, undefined)
  assert.equal(await orAborted(never, controller.signal), undefined)
})
