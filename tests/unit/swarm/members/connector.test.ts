import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger } from '../../../../lib/observe/log.ts'
import { createConnector } from '../../../../lib/swarm/members/connector.ts'
import { ManualClock } from '../../../doubles/manual-clock.ts'

/**
 * A connector whose network is a list of ids, of which `?` does not say its own. A member that is joined is connected at once,
 * unless it is dead.
 */
function connecting(
  others: readonly string[],
  dead: readonly string[] = [],
  interval: readonly [first: number, most: number] = [100, 100],
) {
  const clock = new ManualClock()
  const members = new Set<string>()
  const left: string[] = []
  let searches = 0
  const connector = createConnector(
    {
      log: silentLogger,
      clock,
      members: () => members,
      unconnected() {
        searches++
        return others.map((_, port) => ({ host: '10.0.0.1', port }))
      },
      identify: async ({ port }) => (others[port] === '?' ? await new Promise(() => undefined) : others[port]),
      join: (id) => {
        if (!dead.includes(id)) members.add(id)
      },
      leave: (id) => left.push(id),
    },
    interval,
  )
  return { clock, connector, members, left, searches: () => searches }
}

test('Connector connects to the members that it finds, up to its target, and then searches no more', async () => {
  const ids = [...'abcdefghijklmnopqrst']
  const { clock, connector, members, searches } = connecting(ids)
  connector.start()
  await clock.pass(1)
  assert.deepEqual([...members], ids.slice(0, 16))
  await clock.pass(1_000)
  assert.equal(searches(), 1)
  connector.close()
})

test('Connector counts members that have connected to it', async () => {
  const { clock, connector, members } = connecting(['a', 'b', 'c'])
  for (let id = 1; id <= 15; id++) members.add(`${id}`)
  connector.start()
  await clock.pass(1)
  assert.deepEqual([...members].slice(15), ['a'])
  connector.close()
})

test('Connector gives up on a member that cannot be reached, and tries it again at the next search', async () => {
  const { clock, connector, left, searches } = connecting(['a', 'b'], ['b'])
  connector.start()
  await clock.pass(1)
  assert.deepEqual(left, [])
  await clock.pass(100)
  assert.deepEqual(left, ['b'])
  assert.equal(searches(), 2)
  connector.close()
  assert.deepEqual(left, ['b', 'a', 'b'])
})

test('Connector ends a search when a member does not say who it is, and begins another one', async () => {
  const { clock, connector, members, searches } = connecting(['a', '?', 'b'])
  connector.start()
  await clock.pass(4_900)
  assert.equal(searches(), 1)
  await clock.pass(300)
  assert.equal(searches(), 2)
  assert.deepEqual([...members], ['a'])
  connector.close()
})

test('Connector searches less and less often while nothing changes, and soon when something does', async () => {
  const { clock, connector, searches } = connecting(['a'], [], [100, 10_000])
  connector.start()
  for (const [passed, expected] of [
    [99, 1],
    [2, 2],
    [198, 2],
    [2, 3],
    [30_000, 9],
  ] as const) {
    await clock.pass(passed)
    assert.equal(searches(), expected)
  }
  connector.soon()
  await clock.pass(60)
  connector.soon()
  await clock.pass(41)
  assert.equal(searches(), 10, 'another change does not put it off')
  connector.close()
})

test('Connector does nothing before it is started, nor once it is closed', async () => {
  const { clock, connector, searches } = connecting(['a'])
  connector.soon()
  await clock.pass(1_000)
  assert.equal(searches(), 0)
  connector.start()
  connector.close()
  connector.soon()
  await clock.pass(1_000)
  assert.equal(searches(), 1)
  assert.equal(clock.pending, 0)
})
