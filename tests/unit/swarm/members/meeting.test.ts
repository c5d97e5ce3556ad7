import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Meeting, type MeetingOptions } from '../../../../lib/swarm/members/meeting.ts'
import { waitFor } from '../../../fixtures/wait.ts'

/** A meeting whose network is a list of ids; who is joined is connected at once, unless it is dead. */
function meeting(
  others: readonly string[],
  { dead = [] as readonly string[], ...options }: MeetingOptions & { dead?: readonly string[] },
) {
  const members = new Set<string>()
  const left: string[] = []
  let searches = 0
  const own = new Meeting(
    {
      members: () => members,
      async *find() {
        searches++
        for (const id of others) yield { id }
      },
      join: (id) => {
        if (!dead.includes(id)) members.add(id)
      },
      leave: (id) => left.push(id),
    },
    options,
  )
  return { own, members, left, searches: () => searches }
}

test('Meeting connects to whom it finds, up to its target, and then searches no more', async () => {
  const { own, members, searches } = meeting(['a', 'b', 'c', 'd'], { target: 3, interval: [0, 0] })
  await own.attend()
  assert.deepEqual([...members], ['a', 'b', 'c'])
  await own.attend()
  assert.equal(searches(), 1)
})

test('Meeting counts those who connected to it', async () => {
  const { own, members } = meeting(['a', 'b', 'c'], { target: 2, interval: [0, 0] })
  members.add('x')
  await own.attend()
  assert.deepEqual([...members], ['x', 'a'])
})

test('Meeting gives up on who cannot be reached, and tries it again at the next search', async () => {
  const { own, left, searches } = meeting(['a', 'b'], { dead: ['b'], interval: [0, 0] })
  await own.attend()
  assert.deepEqual(left, [])
  await own.attend()
  assert.deepEqual(left, ['b'])
  assert.equal(searches(), 2)
  own.close()
  assert.deepEqual(left, ['b', 'a', 'b'])
})

test('Meeting searches less and less often while nothing changes, and soon when something does', async () => {
  const { own, searches } = meeting(['a'], { interval: [40, 10_000] })
  await own.attend()
  await own.attend()
  assert.equal(searches(), 1)
  await waitFor('the second search', async () => {
    await own.attend()
    return searches() === 2
  })
  await own.attend()
  assert.equal(searches(), 2)
  own.soon()
  await own.attend()
  assert.equal(searches(), 3)
})

test('Meeting does nothing once it is closed', async () => {
  const { own, searches } = meeting(['a'], {})
  own.close()
  await own.attend()
  assert.equal(searches(), 0)
})
