import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { eagerly } from '../../../lib/transfer/eagerly.ts'
import { never } from '../../fixtures/layout.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = []
  for await (const item of items) collected.push(item)
  return collected
}

async function* from<T>(items: readonly T[], pauses: readonly boolean[] = []): AsyncIterable<T> {
  for (const [index, item] of items.entries()) {
    if (pauses[index]) await new Promise((resolve) => setTimeout(resolve, 1))
    yield item
  }
}

test('eagerly gives every item once, in order, whoever is slower', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer(), { maxLength: 12 }),
      fc.array(fc.boolean()),
      fc.array(fc.boolean()),
      async (items, pauses, stops) => {
        const seen: number[] = []
        for await (const item of eagerly(from(items, pauses), never)) {
          if (stops[seen.length]) await new Promise((resolve) => setTimeout(resolve, 1))
          seen.push(item)
        }
        assert.deepEqual(seen, items)
      },
    ),
    { numRuns: 50 },
  )
})

test('eagerly reads on while nobody asks', async () => {
  let given = 0
  async function* source() {
    for (let item = 0; item < 3; item++) {
      given++
      yield item
    }
  }
  const items = eagerly(source(), never)[Symbol.asyncIterator]()
  assert.equal((await items.next()).value, 0)
  await waitFor('all items are read', () => given === 3)
  assert.equal((await items.next()).value, 1)
})

test('eagerly ends when the signal aborts, with what was found before', async () => {
  const stop = new AbortController()
  async function* source() {
    yield 'a'
    yield 'b'
    await new Promise(() => undefined)
  }
  const seen: string[] = []
  const reading = (async () => {
    for await (const item of eagerly(source(), stop.signal)) {
      seen.push(item)
      // Both were found by now; the second must be given nevertheless.
      if (item === 'a') stop.abort()
    }
  })()
  await within('the end', reading, 2_000)
  assert.deepEqual(seen, ['a', 'b'])
})

test('eagerly gives nothing for a signal that is aborted already', async () => {
  const endless = (async function* () {
    yield await new Promise<never>(() => undefined)
  })()
  assert.deepEqual(await within('the end', collect(eagerly(endless, AbortSignal.abort())), 2_000), [])
})

test('eagerly throws what the source throws, after the items before it', async () => {
  async function* source() {
    yield 1
    throw new Error('the lookup broke')
  }
  const seen: number[] = []
  const reading = (async () => {
    for await (const item of eagerly(source(), never)) seen.push(item)
  })()
  await assert.rejects(reading, /the lookup broke/)
  assert.deepEqual(seen, [1])
})
