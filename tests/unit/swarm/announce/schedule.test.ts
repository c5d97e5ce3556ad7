import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Key } from '../../../../lib/oci/key.ts'
import { Schedule, type Task } from '../../../../lib/swarm/announce/schedule.ts'
import { NetworkMap } from '../../../../lib/swarm/dht/network-map.ts'
import { idOf, seeded } from '../../../doubles/simulated-dht.ts'
import { never } from '../../../fixtures/layout.ts'

const PERIOD = 100_000
const key = (name: string | number): Key => `${name}` as Key
const keys = (from: number, to: number): Key[] => Array.from({ length: to - from }, (_, at) => key(from + at))
const topicOf = (of: Key): Uint8Array => createHash('sha256').update(of).digest()
const nodeAt = (port: number) => ({ host: '10.0.0.1', port, id: idOf({ host: '10.0.0.1', port }) })

/** A schedule over a map of `count` nodes, and a driver for it. */
function scheduling(nodes: number, replicas = 1) {
  const map = new NetworkMap(nodeAt(1))
  const schedule = new Schedule(map, topicOf, seeded(1), { replicas, refreshPeriod: PERIOD, recordLife: 2 * PERIOD })
  map.on('joined', (node) => schedule.joined(node))
  map.on('left', (node) => schedule.left(node))
  map.on('recovered', (node) => schedule.recovered(node))
  for (let port = 1; port <= nodes; port++) map.answered(nodeAt(port), 0)
  /** Sends everything that is due, successfully. */
  const sendAll = (now: number): Task[] => {
    const sent: Task[] = []
    for (let task = schedule.next(now); task !== undefined; task = schedule.next(now)) {
      sent.push(task)
      schedule.landed(task, [], now)
    }
    return sent
  }
  return { map, schedule, sendAll }
}

const named = (tasks: readonly Task[]) =>
  tasks.flatMap(({ kind, placements }) => placements.map((placement) => `${kind} ${placement.key}`))

test('Schedule sends withdrawals before new keys before repairs before refreshes', () => {
  const { map, schedule, sendAll } = scheduling(1)
  schedule.advertise(keys(0, 3), 0)
  sendAll(0)
  // All keys are due again, and a node has joined that must hold one of them.
  const [first] = keys(0, 3)
  assert.ok(first !== undefined)
  const joining = Array.from({ length: 200 }, (_, at) => nodeAt(at + 2)).find((node) => {
    const other = new NetworkMap(nodeAt(1))
    other.answered(nodeAt(1), 0)
    other.answered(node, 0)
    return keys(0, 3).filter((of) => other.closest(topicOf(of), 1)[0]?.port === node.port).length === 1
  })
  assert.ok(joining !== undefined)
  map.answered(joining, PERIOD)
  schedule.advertise([key('fresh')], PERIOD)
  schedule.advertise([key('news')], PERIOD)
  schedule.advertise([key('gone')], PERIOD)
  const task = schedule.next(PERIOD)
  assert.deepEqual(task && named([task]), ['store gone', 'store news'], 'the newest goes first')
  if (task !== undefined) schedule.landed(task, [], PERIOD)
  schedule.withdraw([key('gone')])
  const sent = sendAll(PERIOD)
  assert.deepEqual(named(sent).slice(0, 2), ['remove gone', 'store fresh'])
  assert.equal(sent[2]?.node.port, joining.port, 'a repair')
  assert.deepEqual(named(sent).slice(3).length, 2, 'the others are refreshed')
})

test('Schedule sends the newest key of a lane first, the keys of one call in the order of the key space, each once', () => {
  const { schedule, sendAll } = scheduling(1)
  schedule.advertise(keys(0, 20), 0)
  schedule.advertise(keys(10, 40), 0)
  const sent = sendAll(0).flatMap(({ placements }) => placements)
  assert.deepEqual(sent.map(({ key: of }) => of).sort(), keys(0, 40).sort())
  assert.deepEqual(
    sent.slice(0, 20).map(({ key: of }) => Number(of) >= 20),
    new Array(20).fill(true),
  )
  for (const batch of [sent.slice(0, 20), sent.slice(20)]) {
    const prefixes = batch.map(({ prefix }) => prefix)
    assert.deepEqual(
      prefixes,
      [...prefixes].sort((a, b) => a - b),
    )
  }
})

test('Schedule moves a key that waited for something else', () => {
  const { schedule, sendAll } = scheduling(1)
  schedule.advertise([key('a'), key('b')], 0)
  sendAll(0)
  schedule.withdraw([key('a'), key('b')])
  assert.equal(schedule.urgency, 'withdrawals')
  schedule.advertise([key('a')], 1)
  assert.deepEqual(named(sendAll(1)), ['remove b', 'store a'])
  assert.deepEqual([schedule.size, schedule.waiting, schedule.urgency], [1, 0, undefined])
})

test('Schedule says when a key is due to be announced again, and sends nothing before', () => {
  const { schedule, sendAll } = scheduling(3, 3)
  assert.equal(schedule.refreshAt, Number.POSITIVE_INFINITY)
  schedule.advertise([key('a')], 0)
  assert.equal(sendAll(0).length, 3)
  let refreshed = 0
  for (let now = 0; refreshed < 3; ) {
    const at = schedule.refreshAt
    assert.ok(at >= now && at <= now + PERIOD, `${at} after ${now}`)
    if (at > now) assert.equal(schedule.next(at - 1), undefined)
    now = at
    const sent = sendAll(now)
    if (sent.length === 0) continue
    assert.deepEqual(named(sent), new Array(3).fill('store a'))
    refreshed++
  }
})

test('Schedule announces every key again within a period, however time passes and keys come and go', () => {
  const step = fc.record({
    pass: fc.double({ min: 0, max: PERIOD / 2, noNaN: true }),
    add: fc.nat(3),
    remove: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const { schedule, sendAll } = scheduling(1)
      const last = new Map<Key, number>()
      let now = 0
      for (const [at, { pass, add, remove }] of steps.entries()) {
        now += pass
        for (const { placements } of sendAll(now)) for (const { key: of } of placements) last.set(of, now)
        // A young key waits for the next turn of its part.
        for (const [of, sentAt] of last) assert.ok(now - sentAt <= 1.1 * PERIOD + pass, `${of} after ${now - sentAt}`)
        const added = keys(at * 10, at * 10 + add)
        schedule.advertise(added, now)
        for (const of of added) last.set(of, now)
        const [oldest] = last.keys()
        if (!remove || oldest === undefined) continue
        schedule.withdraw([oldest])
        sendAll(now)
        last.delete(oldest)
      }
    }),
  )
})

test('Schedule sends every key only once after a standstill of many periods, in the order of the key space', () => {
  const { schedule, sendAll } = scheduling(1)
  schedule.advertise(keys(0, 100), 0)
  sendAll(0)
  const sent = sendAll(50 * PERIOD).flatMap(({ placements }) => placements.map(({ prefix }) => prefix))
  assert.equal(sent.length, 100)
  assert.deepEqual(
    sent,
    [...sent].sort((a, b) => a - b),
  )
  assert.equal(schedule.refreshed, 100)
})

test('Schedule sends nothing to a node that is silent until it answers, and elsewhere once it is lost', () => {
  const { map, schedule, sendAll } = scheduling(9, 8)
  const [silent, lost] = map.closest(topicOf(key('a')), 2)
  assert.ok(silent !== undefined && lost !== undefined)
  for (const node of [silent, lost]) map.silent(node, 1, 2)
  schedule.advertise([key('a')], 3)
  assert.equal(sendAll(3).length, 6)
  assert.equal(schedule.waiting, 0, 'it waits for no silent node')
  map.answered(silent, 4)
  assert.deepEqual(
    sendAll(4).map(({ node }) => node),
    [silent],
  )
  const [ninth] = map.closest(topicOf(key('a')), 9).slice(8)
  map.lose(lost, 5)
  assert.deepEqual(
    sendAll(5).map(({ node }) => node),
    [ninth],
  )
  map.silent(silent, 6, 7)
  schedule.withdraw([key('a')])
  assert.equal(sendAll(8).length, 7)
  assert.equal(schedule.waiting, 1, 'the silent node still has it')
  map.answered(silent, 9)
  assert.deepEqual(named(sendAll(9)), ['remove a'])
  assert.equal(schedule.waiting, 0)
})

test('Schedule never has two running requests for a key to one node, and settles, whatever happens', async () => {
  const step = fc.oneof(
    fc.nat(5).map((at) => ({ kind: 'advertise' as const, at })),
    fc.nat(5).map((at) => ({ kind: 'withdraw' as const, at })),
    { weight: 6, arbitrary: fc.constant({ kind: 'next' as const, at: 0 }) },
    fc.nat(20).map((at) => ({ kind: 'done' as const, at })),
    fc.nat(20).map((at) => ({ kind: 'failed' as const, at })),
    fc.nat(9).map((at) => ({ kind: 'silent' as const, at })),
    fc.nat(9).map((at) => ({ kind: 'answered' as const, at })),
    fc.nat(9).map((at) => ({ kind: 'lost' as const, at })),
    fc.integer({ min: 1, max: PERIOD }).map((at) => ({ kind: 'pass' as const, at })),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 120 }), async (steps) => {
      const { map, schedule, sendAll } = scheduling(10, 4)
      const wanted = new Set<Key>()
      let flying: (Task & { readonly sentAt: number })[] = []
      let now = 1
      const land = (at: number, isDone: boolean) => {
        const task = flying[at]
        if (task === undefined) return
        flying = flying.filter((other) => other !== task)
        schedule.landed(task, isDone ? [] : undefined, task.sentAt)
      }
      for (const { kind, at } of steps) {
        now++
        const node = nodeAt(at + 1)
        if (kind === 'pass') now += at
        if (kind === 'advertise') schedule.advertise([key(at)], now)
        if (kind === 'advertise') wanted.add(key(at))
        if (kind === 'withdraw') schedule.withdraw([key(at)])
        if (kind === 'withdraw') wanted.delete(key(at))
        if (kind === 'done') land(at, true)
        if (kind === 'failed') land(at, false)
        if (kind === 'silent') map.silent(node, now - 1, now)
        if (kind === 'answered') map.answered(node, now)
        if (kind === 'lost') map.lose(node, now)
        if (kind !== 'next') continue
        const task = schedule.next(now)
        if (task === undefined) continue
        assert.equal(task.node.strikes, 0)
        for (const { placements, node: other } of flying)
          assert.ok(other !== task.node || !placements.some((placement) => task.placements.includes(placement)))
        flying.push({ ...task, sentAt: now })
      }
      while (flying.length > 0) land(0, true)
      for (let port = 1; port <= 10; port++) map.answered(nodeAt(port), now)
      sendAll(now)
      assert.deepEqual([schedule.size, schedule.waiting], [wanted.size, 0])
      await schedule.settled(never)
    }),
  )
})
