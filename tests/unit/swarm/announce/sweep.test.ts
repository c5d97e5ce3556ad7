import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Key } from '../../../../lib/oci/key.ts'
import { Lanes } from '../../../../lib/swarm/announce/lanes.ts'
import { Placement } from '../../../../lib/swarm/announce/placement.ts'
import { Sweep } from '../../../../lib/swarm/announce/sweep.ts'
import { seeded } from '../../../doubles/simulated-dht.ts'

const placement = (name: string | number) =>
  new Placement(`${name}` as Key, createHash('sha256').update(`${name}`).digest(), 0)
const placements = (count: number) => Array.from({ length: count }, (_, index) => placement(index))

test('Sweep passes everything once in a lap and again in the next, however time goes by', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 60 }),
      fc.array(fc.double({ min: 0, max: 400, noNaN: true }), { maxLength: 40 }),
      fc.nat(),
      (count, steps, seed) => {
        const sweep = new Sweep(1_000, 0, seeded(seed))
        const all = placements(count)
        sweep.add(all)
        const last = new Map(all.map((of) => [of, 0]))
        let now = 0
        for (const step of [...steps, 300, 300, 300, 300]) {
          now += step
          for (const due of sweep.advance(now, Number.POSITIVE_INFINITY)) {
            assert.ok(now - (last.get(due) ?? 0) <= 1_000 + step + 1)
            last.set(due, now)
          }
          assert.equal(Math.round(sweep.lag(now)), 0)
        }
        for (const [of, passed] of last) assert.ok(now - passed <= 1_000, `${of.key} was passed ${now - passed} ms ago`)
      },
    ),
  )
})

test('Sweep gives no more at a time than it may, says how late it is, and catches up', () => {
  const sweep = new Sweep(1_000, 0, () => 0)
  sweep.add(placements(100))
  const first = sweep.advance(500, 10)
  assert.equal(first.length, 10)
  assert.ok(sweep.lag(500) > 300, `${sweep.lag(500)} ms`)
  const passed = [...first]
  while (sweep.lag(500) > 0) passed.push(...sweep.advance(500, 10))
  assert.equal(new Set(passed).size, passed.length)
  assert.ok(passed.length > 30 && passed.length < 70, `${passed.length} in half a lap`)
  assert.deepEqual(
    passed.map(({ prefix }) => prefix),
    passed.map(({ prefix }) => prefix).sort((a, b) => a - b),
  )
})

test('Sweep takes as many as come at once', () => {
  const sweep = new Sweep(1_000, 0, () => 0)
  sweep.add(new Array<Placement>(1_000_000).fill(placement('one')))
  assert.equal(sweep.advance(1_000, 10).length, 10)
})

test('Sweep forgets what is removed', () => {
  const sweep = new Sweep(1_000, 0, () => 0)
  const all = placements(10)
  sweep.add(all)
  sweep.remove(new Set(all.slice(0, 9)))
  assert.deepEqual(sweep.advance(1_000, 100), all.slice(9))
})

test('Lanes give withdrawals before news before other new keys before repairs before refreshes, the newest first, each once', () => {
  const lanes = new Lanes()
  const [a, b, c, d, e, f] = placements(6) as [Placement, Placement, Placement, Placement, Placement, Placement]
  lanes.add(a, 'refresh')
  lanes.add(b, 'fresh')
  lanes.add(c, 'fresh')
  lanes.add(d, 'withdrawals')
  lanes.add(f, 'express')
  lanes.add(e, 'repair')
  lanes.add(a, 'repair')
  lanes.add(b, 'refresh')
  assert.deepEqual([lanes.take(), lanes.take(), lanes.take(), lanes.take()], [d, f, c, b])
  lanes.remove(e)
  assert.equal(lanes.take(), a)
  assert.equal(lanes.take(), undefined)
})

test('Lanes move what waited for something else, whatever that was', () => {
  const lanes = new Lanes()
  const of = placement('a')
  lanes.add(of, 'withdrawals')
  lanes.move(of, 'fresh')
  assert.equal(lanes.urgent, 'fresh')
  assert.equal(lanes.take(), of)
  assert.equal(lanes.take(), undefined)
})
