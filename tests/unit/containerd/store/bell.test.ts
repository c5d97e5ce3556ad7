import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBell, pause } from '../../../../lib/containerd/store/bell.ts'
import { within } from '../../../fixtures/wait.ts'

const never = new AbortController().signal

/** Longer than any test may take, in milliseconds: a wait of this length is not waited for. */
const AGES = 1_000_000

test('bell.wait is true at once after a ring, until it is cleared', async () => {
  const bell = createBell()
  bell.ring()
  assert.equal(await within('the first wait', bell.wait(AGES, never)), true)
  assert.equal(await within('the second wait', bell.wait(AGES, never)), true)
  bell.clear()
  assert.equal(await bell.wait(1, never), false)
})

test('bell.wait wakes for a ring, a failure and an abort', async () => {
  const rung = createBell()
  const waiting = rung.wait(AGES, never)
  rung.ring()
  assert.equal(await within('the ring', waiting), true)

  const failed = createBell()
  const failing = failed.wait(AGES, never)
  failed.fail(new Error('first'))
  failed.fail(new Error('second'))
  await assert.rejects(within('the failure', failing), /first/)
  await assert.rejects(within('the failure again', failed.wait(AGES, never)), /first/)

  const controller = new AbortController()
  const aborted = createBell().wait(AGES, controller.signal)
  controller.abort(new Error('enough'))
  await assert.rejects(within('the abort', aborted), /enough/)
  await assert.rejects(createBell().wait(AGES, controller.signal), /enough/)
})

test('pause ends after its time or with its signal', async () => {
  await within('the end', pause(1, never))
  const controller = new AbortController()
  const waiting = pause(AGES, controller.signal)
  controller.abort()
  await within('the end', waiting)
  await within('the end', pause(AGES, controller.signal))
})
