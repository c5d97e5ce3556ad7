import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '../../../lib/platform/clock.ts'
import { createServerConnections } from '../../../lib/platform/server-connections.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import { waitFor } from '../../fixtures/wait.ts'

const LONG = 60_000

/** Connections that each have a name, and the names of those that were ended. */
function setUp(...args: Parameters<typeof createServerConnections>) {
  const connections = createServerConnections(...args)
  const ended: string[] = []
  const come = (name: string, address = 'a') => connections.accept(address, () => ended.push(name))
  const open = (...from: Parameters<typeof come>) => come(...from) ?? assert.fail('it was refused')
  return { connections, ended, come, open }
}

test('ServerConnections ends the oldest idle connection if there is one too many', () => {
  const { connections, ended, come, open } = setUp(3)
  const oldest = connections.begin(open('busy'))
  for (const name of ['second', 'third', 'fourth']) come(name)
  assert.deepEqual(ended, ['second'])
  oldest.over()
  come('fifth')
  assert.deepEqual(ended, ['second', 'busy'])
})

test('ServerConnections ends the oldest newcomer of an address, or of all, if there is one too many', async () => {
  let now = 0
  const { connections, ended, come, open } = setUp(
    100,
    { most: 4, mostPerAddress: 2, time: LONG },
    { ...systemClock, now: () => now++ * 1_000 },
  )
  for (const name of ['a0', 'a1', 'a2', 'a3']) come(name)
  assert.deepEqual(ended, ['a0', 'a1'])
  connections.begin(open('trusted', 'b')).admission.trust()
  for (const address of ['b', 'b', 'c']) come(address, address)
  assert.deepEqual(ended, ['a0', 'a1', 'a2'])
  assert.equal(await connections.drain(AbortSignal.abort()), 1)
})

test('ServerConnections accepts a bounded number of newcomers per address and second, not counting trusted ones', async () => {
  let now = 0
  const { connections, ended, come, open } = setUp(
    100,
    { most: 10, mostPerAddress: 2, time: LONG },
    { ...systemClock, now: () => now },
  )
  for (let count = 0; count < 5; count++) connections.begin(open('trusted')).admission.trust()
  const [first, second] = [come('first'), come('second')]
  assert.ok(first && second)
  // They have left, and newcomers are bounded as before.
  for (const connection of [first, second]) connections.remove(connection)
  assert.equal(come('third'), undefined)
  assert.ok(come('other', 'b'))
  now = 1_000
  assert.ok(come('later'))
  assert.deepEqual(ended, [])
  await connections.drain(AbortSignal.abort())
})

test('ServerConnections ends a newcomer whose time is over, even in the middle of a request, but no trusted connection', async () => {
  const { connections, ended, come, open } = setUp(100, { most: 10, mostPerAddress: 10, time: 1 })
  connections.begin(open('trusted')).admission.trust()
  connections.begin(open('asking'))
  come('silent')
  await waitFor('their end', () => ended.length === 2)
  assert.deepEqual(ended, ['asking', 'silent'])
  await connections.drain(AbortSignal.abort())
  assert.deepEqual(ended, ['asking', 'silent', 'trusted'])
})

test('ServerConnections gives a bounded number of places, and frees a place when its exchange is over', async () => {
  const { connections, open } = setUp()
  const [one, two] = [connections.begin(open('one')), connections.begin(open('two'))]
  assert.deepEqual([one.admission.take(1), one.admission.take(1), two.admission.take(1)], [true, true, false])
  one.over(12)
  one.over(13)
  assert.equal(await one.admission.ended, 12)
  assert.deepEqual([connections.admitted, two.admission.take(1)], [0, true])
  two.over()
  assert.equal(await connections.drain(new AbortController().signal), 0)
})

test('ServerConnections waits for exchanges until the signal aborts, and counts those that are cut', async () => {
  const { connections, ended, come, open } = setUp()
  const exchange = connections.begin(open('busy'))
  come('idle')
  const drained = connections.drain(new AbortController().signal)
  assert.deepEqual(ended, ['idle'])
  exchange.over()
  assert.equal(await drained, 0)
  assert.deepEqual(ended, ['idle', 'busy'])
  connections.begin(open('cut'))
  assert.equal(await connections.drain(AbortSignal.abort()), 1)
})

test('ServerConnections waits until clients have got the last part of their content, or have not asked for long', async () => {
  const clock = new ManualClock()
  const { connections, open } = setUp(100, undefined, clock)
  let isOver = false
  const ask = (address: string, isLast: boolean) => {
    const exchange = connections.begin(open(address, address))
    exchange.admission.givesPart('blob', isLast)
    return exchange
  }
  const running = ask('left', false)
  ask('stays', false).over()
  const finished = connections.finish(new AbortController().signal).then(() => {
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
  await connections.finish(AbortSignal.abort())
})

test('ServerConnections does not wait for a client that had left before it was given a part', async () => {
  const { connections, open } = setUp(100, undefined, new ManualClock())
  const exchange = connections.begin(open('left'))
  exchange.over()
  exchange.admission.givesPart('blob', false)
  await connections.finish(new AbortController().signal)
  assert.ok(!connections.begin(open('again')).admission.mayBegin('blob'))
})

test('ServerConnections that finish let clients go on with content that they have begun, and begin no other', async () => {
  const { connections, open } = setUp()
  const [a, b] = [open('a', 'a'), open('b', 'b')]
  const first = connections.begin(a)
  assert.ok(first.admission.mayBegin('blob'))
  first.admission.givesPart('blob', false)
  const finished = connections.finish(new AbortController().signal)
  assert.ok(connections.begin(open('again', 'a')).admission.mayBegin('blob'), 'on another connection')
  assert.ok(!connections.begin(a).admission.mayBegin('another'))
  assert.ok(!connections.begin(b).admission.mayBegin('blob'))
  connections.begin(a).admission.givesPart('blob', true)
  await finished
  first.over()
  assert.ok(!connections.begin(a).admission.mayBegin('blob'), 'that was the last part')
  await connections.drain(AbortSignal.abort())
})
