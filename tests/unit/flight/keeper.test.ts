import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { FRESH, Keeper, LEASE } from '../../../lib/flight/keeper.ts'
import type { Digest } from '../../../lib/oci/digest.ts'
import type { Known, Peer } from '../../../lib/swarm/router.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'

const digest = `sha256:${'a'.repeat(64)}` as Digest
/** Of content that nobody has announced. */
const NOTHING: Known = { peers: [], isWhole: true }
const node = (number: number): Peer => ({ host: `10.0.0.${number}`, port: 5001 })

/** A keeper, what it says to nodes that ask, and a way to tell it. */
function scene() {
  const clock = new ManualClock()
  const keeper = new Keeper(clock)
  const known: { readonly peers: Peer[]; readonly isWhole: boolean } = { peers: [], isWhole: true }
  /** `lead`, `wait`, or the numbers of those who have it, and of the one to follow. */
  const ask = (number: number, not: readonly number[] = [], { gives = true, leads = true, resumes = false } = {}) => {
    const question = { digest, gives, leads, resumes, not: not.map(node) }
    const { holders, parent, mustWait } = keeper.ask(question, node(number), known)
    const named = (peers: readonly Peer[]) => peers.map(({ host }) => host.split('.').at(-1)).join()
    const said = [
      ...(holders.length > 0 ? [`holders ${named(holders)}`] : []),
      ...(parent ? [`follow ${named([parent])}`] : []),
    ]
    return said.join(', ') || (mustWait ? 'wait' : 'lead')
  }
  const arriving = (number: number, written: number, parent?: number, room = 1) =>
    keeper.tell(
      { kind: 'arriving', digest, written, room, ...(parent === undefined ? {} : { parent: node(parent) }) },
      node(number),
      known,
    )
  const gone = (number: number) => keeper.tell({ kind: 'gone', digest }, node(number), known)
  /** They have announced the content, as the keeper learns from its own records. */
  const announce = (...numbers: number[]) => known.peers.push(...numbers.map(node))
  const better = (number: number) => keeper.better(digest, node(number), known)?.host.split('.').at(-1)
  /** The numbers of those that are to be told that they wait in vain. */
  const fail = (number: number, why: 'refused' | 'wrong') =>
    keeper.tell({ kind: 'gone', digest, why }, node(number), known).map(({ host }) => Number(host.split('.').at(-1)))
  return { clock, keeper, known, ask, arriving, gone, announce, better, fail }
}

test('a keeper makes the first node lead, and each later one follow the one before', () => {
  const { ask } = scene()
  assert.deepEqual(
    [1, 2, 3, 4].map((number) => ask(number)),
    ['lead', 'follow 1', 'follow 2', 'follow 3'],
  )
})

test('a keeper repeats its answer to a node that asks again', () => {
  const { ask } = scene()
  const first = [1, 2, 3].map((number) => ask(number))
  assert.deepEqual(
    [1, 2, 3].map((number) => ask(number)),
    first,
  )
})

test('a keeper keeps a node that asks again in its place, though one nearer to the leader is free', () => {
  const { ask, gone } = scene()
  for (const number of [1, 2, 3, 4]) ask(number)
  gone(2)
  assert.equal(ask(4), 'follow 3')
  assert.equal(ask(3, [2]), 'follow 1')
  assert.equal(ask(4), 'follow 3')
})

test('a keeper names nodes that have announced the content, and one to follow', () => {
  const { ask, announce } = scene()
  for (const number of [1, 2, 3]) ask(number)
  announce(1, 2)
  assert.equal(ask(4), 'holders 1,2, follow 3')
  assert.equal(ask(5), 'holders 1,2, follow 4')
  assert.equal(ask(4, [2]), 'holders 1, follow 3')
  assert.equal(ask(4, [1, 2]), 'follow 3')
})

test('a keeper says how many nodes have announced the content, and names twenty of them at most', () => {
  const { keeper } = scene()
  const known = { peers: Array.from({ length: 30 }, (_, number) => node(number)), isWhole: false }
  const question = { digest, gives: true, leads: true, resumes: false, not: [node(7)] }
  const { holders, held, isWhole } = keeper.ask(question, node(3), known)
  assert.deepEqual([holders.length, held, isWhole], [20, 30, false])
  assert.ok(!holders.some((holder) => [node(3), node(7)].some(({ host }) => host === holder.host)))
})

test('a keeper sends nobody to a node that does not go upstream itself, and makes that node follow', () => {
  const { ask } = scene()
  assert.equal(ask(1, [], { leads: false }), 'lead')
  assert.equal(ask(2), 'lead')
  assert.equal(ask(1, [], { leads: false }), 'follow 2')
  assert.equal(ask(3), 'follow 1')
})

test('a keeper says for a while that the node that led has given up, but not that a follower has', async () => {
  const { clock, keeper, known, ask, gone } = scene()
  for (const number of [1, 2, 3]) ask(number)
  const question = { digest, gives: true, leads: false, resumes: false, not: [] }
  const hasGivenUp = () => keeper.ask(question, node(9), known).isRefused === true
  gone(3)
  assert.equal(hasGivenUp(), false)
  gone(1)
  assert.equal(hasGivenUp(), true)
  await clock.pass(5_000)
  assert.equal(hasGivenUp(), false)
})

test('a keeper says how many others are getting the content', () => {
  const { keeper, known, ask, announce } = scene()
  const crowd = (number: number) =>
    keeper.ask({ digest, gives: true, leads: true, resumes: false, not: [] }, node(number), known).crowd
  assert.deepEqual([1, 2, 3, 1].map(crowd), [0, 1, 2, 2])
  announce(1)
  assert.equal(crowd(4), 2)
  assert.equal(ask(4), 'holders 1, follow 3')
})

test('a keeper sends nobody to a leader that has not begun for a while, until it has', async () => {
  const { clock, ask, arriving } = scene()
  assert.equal(ask(1), 'lead')
  await clock.pass(FRESH)
  assert.equal(ask(2), 'lead')
  arriving(1, 100)
  assert.equal(ask(3), 'follow 1')
})

test('a keeper makes another node lead when a leader is gone, and its followers keep their places', () => {
  const { ask, arriving, gone } = scene()
  for (const number of [1, 2, 3]) ask(number)
  arriving(2, 10, 1)
  gone(1)
  assert.equal(ask(2, [1]), 'lead')
  assert.equal(ask(3), 'follow 2')
  assert.equal(ask(4), 'follow 3')
})

test('a keeper sends several nodes to one with room, and the next ones to those below it', () => {
  const { ask, arriving } = scene()
  for (const number of [1, 2]) ask(number)
  arriving(1, 10, undefined, 3)
  arriving(2, 10, 1, 2)
  assert.deepEqual(
    [3, 4, 5, 6, 7, 8].map((number) => ask(number)),
    ['follow 1', 'follow 1', 'follow 2', 'follow 2', 'follow 3', 'follow 4'],
  )
})

test('a keeper moves a deep node to where it has half as many above it, and those below stay with it', () => {
  const { ask, arriving, better } = scene()
  for (const number of [1, 2, 3, 4, 5, 6]) {
    ask(number)
    arriving(number, 10, number === 1 ? undefined : number - 1)
  }
  assert.deepEqual([1, 2, 3, 4, 5, 6].map(better), Array(6).fill(undefined), 'there is no room')
  arriving(1, 20, undefined, 2)
  assert.deepEqual([1, 3, 5, 6].map(better), [undefined, undefined, '1', undefined])
  // It has not heard of it yet.
  assert.equal(ask(6), 'follow 5')
  assert.equal(ask(7), 'follow 6')
  // It was refused there.
  assert.equal(ask(5, [1]), 'follow 4')
})

test('a keeper sends followers to nodes that have the content, once these are the majority', () => {
  const { keeper, known, ask, arriving, announce, better } = scene()
  for (const number of [1, 2, 3, 4, 5]) {
    ask(number)
    arriving(number, 10, number === 1 ? undefined : number - 1)
  }
  announce(1, 2)
  assert.deepEqual([3, 4, 5].map(better), [undefined, undefined, undefined])
  announce(4)
  assert.deepEqual([3, 5, 3, 5].map(better), ['1', '2', '4', '1'], 'each to another one')
  assert.equal(keeper.better(digest, node(5), known)?.isArriving, undefined)
  assert.equal(better(1), undefined, 'it has it')
  ask(6)
  assert.equal(better(6), undefined, 'as many are getting it')
})

test('a keeper sends two nodes to each if a line of all would be very long', () => {
  const clock = new ManualClock()
  const keeper = new Keeper(clock)
  const peer = (number: number) => ({ host: `10.0.${number >> 8}.${number & 255}`, port: 5001 })
  const parents = Array.from(
    { length: 305 },
    (_, number) =>
      keeper.ask({ digest, gives: true, leads: true, resumes: false, not: [] }, peer(number), NOTHING).parent,
  )
  assert.deepEqual(
    [1, 300, 301, 302, 303, 304].map((number) => parents[number]),
    [0, 299, 0, 1, 301, 301].map(peer),
  )
})

test('a keeper gives the child of a lost node to the node above it', () => {
  const { ask } = scene()
  for (const number of [1, 2, 3, 4]) ask(number)
  assert.equal(ask(3, [2]), 'follow 1')
  assert.equal(ask(5), 'follow 4')
})

test('a keeper releases all nodes when upstream has refused a second one, and nobody follows for a while', async () => {
  const { clock, ask, fail, arriving } = scene()
  for (const number of [1, 2, 3, 4, 5]) ask(number)
  assert.deepEqual(fail(1, 'refused'), [])
  assert.equal(ask(2, [1]), 'lead')
  assert.equal(ask(6), 'follow 5')
  assert.deepEqual(fail(2, 'refused'), [3, 4, 5, 6])
  assert.deepEqual(
    [3, 4, 5, 7].map((number) => ask(number)),
    ['lead', 'lead', 'lead', 'lead'],
  )
  // They are told once.
  assert.deepEqual(fail(3, 'refused'), [])
  arriving(4, 1)
  assert.equal(ask(8), 'follow 4')
  await clock.pass(60_000)
  assert.deepEqual(fail(4, 'refused'), [])
})

test('a keeper releases nobody because one node was refused, however often', () => {
  const { ask, fail } = scene()
  for (const number of [1, 2, 3]) ask(number)
  for (let times = 0; times < 3; times++) {
    assert.deepEqual(fail(1, 'refused'), [])
    ask(1)
  }
  assert.match(ask(4), /^follow/)
})

test('a keeper makes one node lead again after wrong bytes, and the others wait until it has verified content', async () => {
  const { clock, ask, fail, arriving, announce } = scene()
  for (const number of [1, 2, 3]) ask(number)
  for (const number of [1, 2, 3]) arriving(number, 5, number === 1 ? undefined : number - 1)
  assert.deepEqual(fail(3, 'wrong'), [])
  assert.equal(ask(3), 'lead')
  arriving(2, 9, 1)
  assert.deepEqual([ask(4), ask(5), ask(3)], ['wait', 'wait', 'lead'])
  // Its client resumes what may be wrong: it is not waited for, and waits for nobody.
  assert.equal(ask(6, [], { resumes: true }), 'lead')
  arriving(6, 20)
  arriving(3, 10)
  announce(3)
  assert.deepEqual([ask(4), ask(5), ask(7)], ['holders 3', 'holders 3, follow 4', 'holders 3, follow 5'])
  await clock.pass(30_001)
  assert.equal(ask(8), 'holders 3')
})

test('a keeper makes the next node lead when the one for which others wait fails or does not begin', async () => {
  const { clock, ask, fail, arriving } = scene()
  ask(1)
  fail(1, 'wrong')
  assert.deepEqual([ask(1), ask(2), ask(3)], ['lead', 'wait', 'wait'])
  // Others hear late that their bytes were wrong: these are not from the new one.
  arriving(4, 20)
  fail(4, 'wrong')
  assert.equal(ask(2), 'wait')
  fail(1, 'refused')
  assert.deepEqual([ask(2), ask(3)], ['lead', 'wait'])
  await clock.pass(FRESH)
  assert.equal(ask(3), 'lead')
  arriving(3, 5)
  await clock.pass(30_001 - FRESH)
  arriving(3, 10)
  assert.equal(ask(2), 'follow 3')
})

test('a keeper sends nobody to a node that may have wrong bytes from the same node, until it has announced them', () => {
  const { ask, fail, arriving, announce } = scene()
  for (const number of [1, 2, 3, 4]) ask(number)
  for (const number of [1, 2, 3, 4]) arriving(number, 5, number === 1 ? undefined : number - 1)
  fail(3, 'wrong')
  assert.equal(ask(5), 'lead')
  announce(1)
  assert.equal(ask(5), 'holders 1')
  assert.equal(ask(6), 'holders 1, follow 5')
})

test('a keeper forgets silent nodes, and sends nobody to a node that cannot give', async () => {
  const { clock, keeper, ask, arriving } = scene()
  ask(1)
  arriving(1, 10)
  assert.equal(ask(2, [], { gives: false }), 'follow 1')
  assert.equal(ask(3), 'lead')
  await clock.pass(LEASE / 2)
  arriving(1, 20)
  await clock.pass(LEASE / 2 + 1)
  assert.equal(ask(4), 'follow 1')
  assert.equal(keeper.size, 2)
  assert.equal(ask(5, [], { gives: false }), 'follow 4')
})

test('a keeper never makes a circle, whatever nodes ask and tell it', () => {
  const step = fc.oneof(
    fc.record({
      kind: fc.constant('ask' as const),
      number: fc.integer({ min: 1, max: 6 }),
      not: fc.uniqueArray(fc.integer({ min: 1, max: 6 }), { maxLength: 3 }),
    }),
    fc.record({
      kind: fc.constantFrom('begun' as const, 'held' as const, 'withdrawn' as const, 'gone' as const),
      number: fc.integer({ min: 1, max: 6 }),
    }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { known, ask, arriving, gone, announce } = scene()
      const parents = new Map<number, number>()
      for (const step of steps) {
        if (step.kind === 'begun') arriving(step.number, 1, parents.get(step.number))
        else if (step.kind === 'withdrawn') known.peers.splice(0)
        else if (step.kind !== 'ask') {
          if (step.kind === 'gone') gone(step.number)
          else announce(step.number)
          parents.delete(step.number)
        } else {
          const said = ask(step.number, step.not)
          parents.delete(step.number)
          if (said.startsWith('follow ')) parents.set(step.number, Number(said.split(' ')[1]))
        }
        for (const start of parents.keys()) {
          let at = parents.get(start)
          for (let hops = 0; at !== undefined && hops < 10; hops++) at = parents.get(at)
          assert.equal(at, undefined, 'a circle')
        }
      }
    }),
  )
})

test('a keeper sends at most three nodes upstream, in whatever order nodes leave each other and end', () => {
  const step = fc.record({
    kind: fc.constantFrom('ask', 'leave', 'begun', 'gone'),
    number: fc.integer({ min: 1, max: 8 }),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const { ask, arriving, gone } = scene()
      const said = new Map<number, string>()
      const parentOf = (number: number) => Number(said.get(number)?.match(/follow (\d+)/)?.[1] ?? 0) || undefined
      for (const { kind, number } of steps) {
        const parent = parentOf(number)
        if (kind === 'ask') said.set(number, ask(number))
        else if (kind === 'leave' && parent !== undefined) said.set(number, ask(number, [parent]))
        else if (kind === 'begun' && said.has(number)) arriving(number, 5, parent)
        else if (kind === 'gone') {
          said.delete(number)
          gone(number)
        }
        assert.ok([...said.values()].filter((answer) => answer === 'lead').length <= 3)
      }
    }),
  )
})

test('a keeper keeps a bounded number of digests, those that nodes asked for last', () => {
  const { keeper } = scene()
  const named = (number: number) => `sha256:${number.toString(16).padStart(64, '0')}` as Digest
  for (let number = 0; number < 5_000; number++)
    keeper.ask({ digest: named(number), gives: true, leads: true, resumes: false, not: [] }, node(1), NOTHING)
  assert.equal(keeper.size, 4_096)
  assert.deepEqual(
    keeper.ask({ digest: named(4_999), gives: true, leads: true, resumes: false, not: [] }, node(2), NOTHING).parent,
    node(1),
  )
  assert.equal(
    keeper.ask({ digest: named(0), gives: true, leads: true, resumes: false, not: [] }, node(2), NOTHING).parent,
    undefined,
  )
})

test('a keeper ignores late news: a node that has announced the content is not getting it again until it withdraws it', () => {
  const { known, ask, arriving, announce } = scene()
  ask(1)
  arriving(1, 5)
  announce(1)
  arriving(1, 5)
  assert.equal(ask(2, [], { gives: false }), 'holders 1')
  known.peers.splice(0)
  assert.equal(ask(1, [2]), 'lead')
  assert.equal(ask(3), 'follow 1')
})
