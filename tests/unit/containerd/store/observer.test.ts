import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createObserver, nextGathering, type ObserverOptions } from '../../../../lib/containerd/store/observer.ts'
import { Readiness } from '../../../../lib/observe/readiness.ts'
import { createLogRecorder } from '../../../fixtures/log.ts'
import { waitFor, within } from '../../../fixtures/wait.ts'

/** Longer than any test may take, in milliseconds: a wait of this length must be woken. */
const AGES = 1_000_000

/** Something to observe, for which a test decides every answer. */
function makeSubject(options: ObserverOptions = {}, hearsAll = () => false) {
  const state = { subscriptions: 0, ended: 0, looks: 0, changedUntil: 0, failure: undefined as Error | undefined }
  let push: (event: 'event' | Error) => void = () => undefined
  const { log, lines } = createLogRecorder()
  const readiness = new Readiness()
  const observer = createObserver(
    {
      ...{ log, readiness, hearsAll },
      async subscribe(signal) {
        if (state.failure !== undefined) throw state.failure
        state.subscriptions += 1
        const queue: ('event' | Error)[] = []
        let wake: () => void = () => undefined
        push = (event) => {
          queue.push(event)
          wake()
        }
        signal.addEventListener('abort', () => {
          state.ended += 1
          push(new Error('cancelled'))
        })
        return (async function* () {
          for (;;) {
            const event = queue.shift()
            if (event instanceof Error) throw event
            if (event !== undefined) yield event
            else
              await new Promise<void>((resolve) => {
                wake = resolve
              })
          }
        })()
      },
      async reconcile() {
        state.looks += 1
        if (state.failure !== undefined) throw state.failure
        return state.looks <= state.changedUntil
      },
    },
    {
      reconcileInterval: AGES,
      restlessTime: 0,
      gatherFirst: 1,
      gatherMost: 1,
      retryFirst: 1,
      retryMost: 4,
      random: () => 0.5,
      ...options,
    },
  )
  return { state, observer, lines, readiness, push: (event: 'event' | Error) => push(event) }
}

test('observer looks once at the start and after each event', async () => {
  const { state, observer, push } = makeSubject()
  await waitFor('the first look', () => state.looks === 1)
  assert.ok(observer.isUp)
  push('event')
  await waitFor('the look after the event', () => state.looks === 2)
  await observer.close()
  assert.equal(state.subscriptions, 1)
})

test('observer gathers a burst of events into one look', async () => {
  const { state, observer, push } = makeSubject({ gatherFirst: 50, gatherMost: 50 })
  await waitFor('the first look', () => state.looks === 1)
  for (let count = 0; count < 100; count++) push('event')
  await waitFor('the look after the burst', () => state.looks === 2)
  await observer.close()
  assert.equal(state.looks, 2)
})

test('nextGathering is short after quiet, and longer and longer while events keep coming', () => {
  assert.equal(nextGathering(25, 60_000, 25, 400), 25)
  const gathered = [25]
  for (let look = 1; look < 7; look++) gathered.push(nextGathering(gathered.at(-1) ?? 0, 1, 25, 400))
  assert.deepEqual(gathered, [25, 50, 100, 200, 400, 400, 400])
  // As long as the last gathering, so it has certainly ended.
  assert.equal(nextGathering(400, 400, 25, 400), 25)
})

test('observer looks on for a while after a change if events do not report everything', async () => {
  const { state, observer } = makeSubject({ restlessInterval: 1, restlessTime: 20 })
  state.changedUntil = 5
  await waitFor('rest', () => observer.isSettled)
  const { looks } = state
  assert.ok(looks > 5)
  await observer.close()
  assert.equal(state.looks, looks)
})

test('observer looks only once if events report every change', async () => {
  const { state, observer, push } = makeSubject({ restlessInterval: 1, restlessTime: AGES }, () => true)
  state.changedUntil = 5
  await waitFor('rest', () => observer.isSettled)
  assert.equal(state.looks, 1)
  push('event')
  await waitFor('the look after the event', () => state.looks === 2)
  await waitFor('rest again', () => observer.isSettled)
  await observer.close()
  assert.equal(state.looks, 2)
})

test('observer looks at intervals when no event comes', async () => {
  const { state, observer } = makeSubject({ reconcileInterval: 2 })
  await waitFor('several looks', () => state.looks > 5)
  await observer.close()
  assert.equal(state.subscriptions, 1)
})

test('observer subscribes again when the stream breaks, and ends what it had begun', async () => {
  const { state, observer, push, lines } = makeSubject()
  await waitFor('the first look', () => state.looks === 1)
  push(new Error('containerd is gone'))
  await waitFor('the next look', () => state.looks === 2)
  assert.equal(state.subscriptions, 2)
  assert.equal(state.ended, 1)
  assert.deepEqual(
    lines.map(({ level, event }) => [level, event]),
    [
      ['info', 'containerd answers'],
      ['warn', 'containerd does not answer'],
      ['info', 'containerd answers'],
    ],
  )
  await observer.close()
  assert.equal(state.ended, 2)
})

test('observer tries again at growing, bounded intervals, and says why it is not well', async () => {
  const { state, observer, push, lines, readiness } = makeSubject()
  await waitFor('the first look', () => state.looks === 1)
  state.failure = new Error('no such socket')
  push('event')
  await waitFor('several attempts', () => lines.length >= 6)
  assert.deepEqual([observer.isUp, readiness.reasons], [false, ['no such socket']])
  // With `random` in the middle, each wait is three quarters of 1, 2, 4, 4 ... milliseconds.
  assert.deepEqual(
    lines.slice(1, 6).map(({ level, fields }) => [level, fields.retryInMs]),
    [
      ['warn', Math.round(0.75)],
      ['debug', Math.round(1.5)],
      ['debug', 3],
      ['debug', 3],
      ['debug', 3],
    ],
  )
  state.failure = undefined
  await waitFor('the recovery', () => observer.isUp)
  await observer.close()
})

test('observer.close ends a back-off and a subscription that does not answer', async () => {
  const waiting = makeSubject({ retryFirst: AGES, retryMost: AGES })
  waiting.state.failure = new Error('no such socket')
  await waitFor('the loss', () => waiting.lines.length > 0)
  await within('the end of the back-off', waiting.observer.close())

  const { log } = createLogRecorder()
  const readiness = new Readiness()
  const silent = createObserver({
    ...{ log, readiness, hearsAll: () => false },
    subscribe: (signal) =>
      new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    reconcile: async () => false,
  })
  assert.deepEqual([silent.isUp, readiness.reasons], [false, ['containerd has not answered yet']])
  await within('the end of the subscription', silent.close())
})
