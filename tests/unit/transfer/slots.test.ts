import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Slots } from '../../../lib/transfer/slots.ts'

test('Slots gives memory again that was given back, and frees what is too much', () => {
  const slots = new Slots(100, 2)
  const taken = [slots.take(), slots.take(), slots.take()]
  assert.deepEqual(
    taken.map(({ length }) => length),
    [100, 100, 100],
  )
  for (const slot of taken) slots.give(slot)
  assert.deepEqual(
    taken.map(({ length }) => length),
    [100, 100, 0],
  )
  assert.deepEqual(new Set([slots.take(), slots.take()]), new Set(taken.slice(0, 2)))
  assert.equal(slots.take().length, 100)
})
