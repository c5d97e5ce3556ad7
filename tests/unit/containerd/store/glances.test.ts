import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { createGlances } from '../../../../lib/containerd/store/glances.ts'
import { waitFor, within } from '../../../fixtures/wait.ts'

/** Something to glance at of which a test decides how long it may wait, and whether it fails. */
function makeSubject(patience: number | undefined) {
  const state = { glances: 0, patience, failure: undefined as Error | undefined, failures: [] as unknown[] }
  const glances = createGlances(
    {
      async glance() {
        state.glances += 1
        if (state.failure !== undefined) throw state.failure
      },
      patience: () => state.patience,
      failed: (error) => state.failures.push(error),
    },
    { gather: 1 },
  )
  return { state, glances }
}

test('glances: one follows when it is told, and none when nothing is awaited', async () => {
  const { state, glances } = makeSubject(undefined)
  assert.equal(state.glances, 0)
  for (const count of [1, 2, 3]) {
    glances.soon()
    glances.soon()
    await waitFor('the glance', () => state.glances === count)
  }
  await within('the end', glances.close())
  assert.equal(state.glances, 3)
})

test('glances: they go on while something is awaited, also after one has failed', async () => {
  const { state, glances } = makeSubject(1)
  await waitFor('some glances', () => state.glances > 3)
  state.failure = new Error('away')
  await waitFor('failures', () => state.failures.length > 1)
  state.failure = undefined
  const before = state.glances
  await waitFor('more glances', () => state.glances > before + 3)
  assert.ok(state.failures.every((error) => String(error) === 'Error: away'))
  await within('the end', glances.close())
})

test('glances: however often they are told, they take a small part of the time', async () => {
  const begun: number[] = []
  const glances = createGlances({
    async glance() {
      begun.push(performance.now())
      await sleep(20)
    },
    patience: () => undefined,
    failed: () => assert.fail('none fails'),
  })
  const timer = setInterval(() => glances.soon(), 1)
  try {
    await waitFor('three glances', () => begun.length === 3)
  } finally {
    clearInterval(timer)
    await within('the end', glances.close())
  }
  const [, second = 0, third = 0] = begun
  assert.ok(third - second > 150, `${third - second} ms apart`)
})
