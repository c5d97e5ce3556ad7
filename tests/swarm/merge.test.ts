import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { merge } from '../../lib/swarm/merge.ts'

async function* slowly<T>(items: readonly T[], turns: number): AsyncIterable<T> {
  for (const item of items) {
    for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve))
    yield item
  }
}

async function all<T>(source: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = []
  for await (const item of source) items.push(item)
  return items
}

test('merge gives every item of every source, those of one source in their order', async () => {
  const source = fc.tuple(fc.array(fc.nat(), { maxLength: 5 }), fc.nat(3))
  await fc.assert(
    fc.asyncProperty(fc.array(source, { maxLength: 4 }), async (sources) => {
      const named = sources.map(([items, turns], index) =>
        slowly(
          items.map((item) => ({ index, item })),
          turns,
        ),
      )
      const merged = await all(merge(named))
      for (const [index, [items]] of sources.entries()) {
        assert.deepEqual(
          merged.filter((entry) => entry.index === index).map(({ item }) => item),
          items,
        )
      }
      assert.equal(merged.length, sources.flatMap(([items]) => items).length)
    }),
    { numRuns: 50 },
  )
})

test('merge does not wait for a slow source to give what a quick one has', async () => {
  const never: AsyncIterable<string> = { [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => undefined) }) }
  const items: string[] = []
  for await (const item of merge([never, slowly(['a', 'b'], 0)])) {
    items.push(item)
    if (items.length === 2) break
  }
  assert.deepEqual(items, ['a', 'b'])
})

test('merge throws what a source throws', async () => {
  async function* failing(): AsyncIterable<string> {
    yield 'a'
    throw new Error('broken')
  }
  await assert.rejects(all(merge([failing(), slowly(['b'], 1)])), /broken/)
})
