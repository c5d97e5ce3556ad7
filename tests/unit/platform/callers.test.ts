import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Callers } from '../../../lib/platform/callers.ts'
import { systemClock } from '../../../lib/platform/clock.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import { waitFor } from '../../fixtures/wait.ts'

const LONG = 60_000

/** Callers of which each has a name, and the names of those that were ended. */
function setUp(...args: ConstructorParameters<typeof Callers>) {
  const callers = new Callers(...args)
  const ended: string[] = []
  const come = (name: string, address = 'a') => callers.came(address, () => ended.push(name))
  return { callers, ended, come }
}

test('Callers ends the oldest idle connection when there is one too many', () => {
  const { callers, ended, come } = setUp(3)
  const oldest = callers.asked(come('busy'))
  for (const name of ['second', 'third', 'fourth']) come(name)
  assert.deepEqual(ended, ['second'])
  oldest.over()
  come('fifth')
  assert.deepEqual(ended, ['second', 'busy'])
})

test('Callers ends the oldest newcomer of an address, or of all, when there is one too many', async () => {
  let now = 0
  const { callers, ended, come } = setUp(
    100,
    { most: 4, mostPerAddress: 2, time: LONG },
    { ...systemClock, now: () => now++ * 1_000 },
  )
  for (const name of ['a0', 'a1', 'a2', 'a3']) come(name)
  assert.deepEqual(ended, ['a0', 'a1'])
  callers.asked(come('trusted', 'b')).admission.trust()
  for (const address of ['b', 'b', 'c']) come(address, address)
  assert.deepEqual(ended, ['a0', 'a1', 'a2'])
  assert.equal(await callers.drain(AbortSignal.abort()), 1)
})

test('Callers takes in as many newcomers of an address a second as it may have, and no one counts that is trusted', async () => {
  let now = 0
  const { callers, ended, come } = setUp(
    100,
    { most: 10, mostPerAddress: 2, time: LONG },
    { ...systemClock, now: () => now },
  )
  for (let count = 0; count < 5; count++) callers.asked(come('trusted')).admission.trust()
  const [first, second] = [come('first'), come('second')]
  assert.ok(first && second)
  // They have left, and it goes on as before.
  for (const caller of [first, second]) callers.left(caller)
  assert.equal(come('third'), undefined)
  assert.ok(come('other', 'b'))
  now = 1_000
  assert.ok(come('later'))
  assert.deepEqual(ended, [])
  await callers.drain(AbortSignal.abort())
})

test('Callers ends a newcomer whose time is over, even in the middle of a request, and no one that is trusted', async () => {
  const { callers, ended, come } = setUp(100, { most: 10, mostPerAddress: 10, time: 1 })
  callers.asked(come('trusted')).admission.trust()
  callers.asked(come('asking'))
  come('silent')
  await waitFor('their end', () => ended.length === 2)
  assert.deepEqual(ended, ['asking', 'silent'])
  await callers.drain(AbortSignal.abort())
  assert.deepEqual(ended, ['asking', 'silent', 'trusted'])
})

test('Callers gives as many places as it may, and a place back when its exchange is over', async () => {
  const { callers, come } = setUp()
  const [one, two] = [callers.asked(come('one')), callers.asked(come('two'))]
  assert.deepEqual([one.admission.take(1), one.admission.take(1), two.admission.take(1)], [true, true, false])
  one.onSent(5)
  one.onSent(7)
  one.over()
  one.over()
  assert.equal(await one.admission.ended, 12)
  assert.deepEqual([callers.admitted, two.admission.take(1)], [0, true])
  two.over()
  assert.equal(await callers.drain(new AbortController().signal), 0)
})

test('Callers waits for exchanges until it must not wait any longer, and counts those that are cut', async () => {
  const { callers, ended, come } = setUp()
  const exchange = callers.asked(come('busy'))
  come('idle')
  callers.endIdle()
  assert.deepEqual(ended, ['idle'])
  const drained = callers.drain(new AbortController().signal)
  exchange.over()
  assert.equal(await drained, 0)
  assert.deepEqual(ended, ['idle', 'busy'])
  callers.asked(come('cut'))
  assert.equal(await callers.drain(AbortSignal.abort()), 1)
})

test('Callers waits until clients have got the last part of what they get in parts, or have not asked for long', async () => {
  const clock = new ManualClock()
  const { callers, come } = setUp(100, undefined, clock)
  let isOver = false
  const ask = (address: string, isLast: boolean) => {
    const exchange = callers.asked(come(address, address))
    exchange.admission.givesPart('blob', isLast)
    return exchange
  }
  const running = ask('left', false)
  ask('stays', false).over()
  const finished = callers.finish(new AbortController().signal).then(() => {
    isOver = true
  })
  await clock.pass(4_000)
  assert.ok(!isOver, 'one part is running, and the other is short ago')
  running.over()
  ask('stays', true).over()
  await clock.pass(4_000)
  assert.ok(!isOver, 'the next part may be asked for')
  await clock.pass(1_000)
  await finished
  ask('stays', false).over()
  await callers.finish(AbortSignal.abort())
})

test('Callers does not wait for a client that had left before it was given a part', async () => {
  const { callers, come } = setUp(100, undefined, new ManualClock())
  const exchange = callers.asked(come('left'))
  exchange.over()
  exchange.admission.givesPart('blob', false)
  await callers.finish(new AbortController().signal)
  assert.ok(!callers.asked(come('again')).admission.mayBegin('blob'))
})

test('Callers that finish let a client go on with what it has begun to get, and begin nothing', async () => {
  const { callers, come } = setUp()
  const [a, b] = [come('a', 'a'), come('b', 'b')]
  const first = callers.asked(a)
  assert.ok(first.admission.mayBegin('blob'))
  first.admission.givesPart('blob', false)
  const finished = callers.finish(new AbortController().signal)
  assert.ok(callers.asked(come('again', 'a')).admission.mayBegin('blob'), 'on another connection')
  assert.ok(!callers.asked(a).admission.mayBegin('another'))
  assert.ok(!callers.asked(b).admission.mayBegin('blob'))
  callers.asked(a).admission.givesPart('blob', true)
  await finished
  first.over()
  assert.ok(!callers.asked(a).admission.mayBegin('blob'), 'that was the last part')
  await callers.drain(AbortSignal.abort())
})
