import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Key } from '../../../../lib/oci/key.ts'
import { Placement } from '../../../../lib/swarm/announce/placement.ts'
import { Sweep } from '../../../../lib/swarm/announce/sweep.ts'
import { seeded } from '../../../doubles/simulated-dht.ts'

const placement = (name: string | number) =>
  new Placement(`${name}` as Key, createHash('sha256').update(`${name}`).digest(), 0)
const placements = (count: number) => Array.from({ length: count }, (_, index) => placement(index))

/** Takes the due placements, up to `most`. */
function take(sweep: Sweep, now: number, most = Number.POSITIVE_INFINITY): Placement[] {
  const taken: Placement[] = []
  while (taken.length < most) {
    const next = sweep.take(now)
    if (next === undefined) break
    taken.push(next)
  }
  return taken
}

test('Sweep passes everything once in each lap, however time passes', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 60 }),
      fc.array(fc.double({ min: 0, max: 400, noNaN: true }), { maxLength: 40 }),
      fc.nat(),
      (count, steps, seed) => {
        const sweep = new Sweep(1_000, seeded(seed))
        const all = placements(count)
        sweep.add(all, 0)
        const last = new Map(all.map((of) => [of, 0]))
        let now = 0
        for (const step of [...steps, 300, 300, 300, 300]) {
          now += step
          for (const due of take(sweep, now)) {
            assert.ok(now - (last.get(due) ?? 0) <= 1_000 + step + 1)
            last.set(due, now)
          }
          assert.ok(sweep.dueAt > now)
        }
        for (const [of, passed] of last) assert.ok(now - passed <= 1_000, `${of.key} was passed ${now - passed} ms ago`)
      },
    ),
  )
})

test('Sweep also passes within a period what is added and deleted on its way', () => {
  const step = fc.record({
    pass: fc.double({ min: 0, max: 300, noNaN: true }),
    add: fc.nat(3),
    remove: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.nat(), (steps, seed) => {
      const sweep = new Sweep(1_000, seeded(seed))
      const last = new Map<Placement, number>()
      let now = 0
      let names = 0
      for (const { pass, add, remove } of [...steps, ...new Array(10).fill({ pass: 200, add: 0, remove: false })]) {
        now += pass
        for (const due of take(sweep, now)) {
          assert.ok(last.has(due), `${due.key} is gone`)
          last.set(due, now)
        }
        for (const [of, passed] of last) assert.ok(now - passed <= 1_000 + pass + 1, `${of.key} at ${now}`)
        const added = Array.from({ length: add }, () => placement(names++))
        if (add > 0) sweep.add(added, now)
        for (const of of added) last.set(of, now)
        const [oldest] = last.keys()
        if (!remove || oldest === undefined) continue
        sweep.delete(oldest)
        last.delete(oldest)
      }
    }),
  )
})

test('Sweep returns due keys in the order of the key space, says how late it is, and catches up', () => {
  const sweep = new Sweep(1_000, () => 0)
  sweep.add(placements(100), 0)
  const first = take(sweep, 500, 10)
  assert.equal(first.length, 10)
  assert.ok(500 - sweep.dueAt > 300, `due at ${sweep.dueAt}`)
  const passed = [...first, ...take(sweep, 500)]
  assert.ok(sweep.dueAt > 500)
  assert.equal(new Set(passed).size, passed.length)
  assert.ok(passed.length > 30 && passed.length < 70, `${passed.length} in half a lap`)
  assert.deepEqual(
    passed.map(({ prefix }) => prefix),
    passed.map(({ prefix }) => prefix).sort((a, b) => a - b),
  )
})

test('Sweep returns everything only once after a standstill of many laps', () => {
  const sweep = new Sweep(1_000, () => 0)
  sweep.add(placements(10), 0)
  const passed = take(sweep, 50_000)
  assert.equal(new Set(passed).size, 10)
  assert.ok(passed.length <= 20, `${passed.length} passed`)
})

test('Sweep accepts any number of keys at once', () => {
  const sweep = new Sweep(1_000, () => 0)
  sweep.add(new Array<Placement>(1_000_000).fill(placement('one')), 0)
  assert.equal(take(sweep, 1_000, 10).length, 10)
})

test('Sweep forgets deleted keys', () => {
  const sweep = new Sweep(1_000, () => 0)
  const all = placements(10)
  sweep.add(all, 0)
  for (const of of all.slice(0, 9)) sweep.delete(of)
  assert.deepEqual(take(sweep, 999), all.slice(9))
})
