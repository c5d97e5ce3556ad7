import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Key } from '../../../lib/oci/key.ts'
import { ContentFeed } from '../../../lib/store/feed.ts'
import { within } from '../../fixtures/wait.ts'

const keys = (...names: string[]) => names as Key[]
const setOf = (...names: string[]) => new Set(keys(...names))

test('ContentFeed tells what is held first, then what changes', async () => {
  const feed = new ContentFeed()
  feed.replace(setOf('a', 'b'))
  const changes = feed.watch(new AbortController().signal)
  assert.deepEqual((await changes.next()).value, { added: ['a', 'b'], removed: [] })
  feed.update({ added: keys('c'), removed: keys('a') })
  assert.deepEqual((await changes.next()).value, { added: ['c'], removed: ['a'] })
  const next = changes.next()
  feed.replace(setOf('c', 'd'))
  assert.deepEqual((await next).value, { added: ['d'], removed: ['b'] })
  feed.close()
})

test('ContentFeed tells a slow watcher only what has changed in the end', async () => {
  const feed = new ContentFeed()
  feed.replace(setOf('a'))
  const changes = feed.watch(new AbortController().signal)
  await changes.next()
  feed.update({ added: keys('b') })
  feed.update({ removed: keys('a', 'b') })
  feed.update({ added: keys('a', 'c') })
  assert.deepEqual((await changes.next()).value, { added: ['c'], removed: [] })
  feed.close()
})

test('ContentFeed wakes nobody for what is no change', async () => {
  const feed = new ContentFeed()
  feed.replace(setOf('a'))
  const changes = feed.watch(new AbortController().signal)
  await changes.next()
  const next = changes.next()
  feed.update({ added: keys('a'), removed: keys('z') })
  feed.replace(setOf('a'))
  feed.update({ added: keys('b') })
  assert.deepEqual((await next).value, { added: ['b'], removed: [] })
  feed.close()
})

test('ContentFeed adds up to what is held, however a watcher dawdles', async () => {
  const names = fc.subarray(['a', 'b', 'c', 'd'])
  const step = fc.oneof(
    fc.record({ added: names, removed: names }).map((change) => ({ kind: 'update', change }) as const),
    names.map((next) => ({ kind: 'replace', next }) as const),
    fc.constant({ kind: 'read' } as const),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      const feed = new ContentFeed()
      const changes = feed.watch(new AbortController().signal)
      await changes.next()
      const told = new Set<Key>()
      const read = async () => {
        // A marker is always a change, so that reading never waits.
        feed.update(feed.held.has('marker' as Key) ? { removed: keys('marker') } : { added: keys('marker') })
        const { value } = await changes.next()
        assert.ok(value !== undefined)
        for (const key of value.removed) assert.ok(told.delete(key), `${key} removed without being told`)
        for (const key of value.added) assert.ok(told.size !== told.add(key).size, `${key} told twice`)
      }
      for (const step of steps) {
        if (step.kind === 'read') await read()
        else if (step.kind === 'replace')
          feed.replace(new Set([...keys(...step.next), ...[...feed.held].filter((k) => k === 'marker')]))
        else feed.update({ added: keys(...step.change.added), removed: keys(...step.change.removed) })
      }
      await read()
      assert.deepEqual(told, feed.held)
      feed.close()
    }),
  )
})

test('ContentFeed forgets watchers that end, by signal, by leaving, and by close', async () => {
  const feed = new ContentFeed()
  const controller = new AbortController()
  const aborted = feed.watch(controller.signal)
  const left = feed.watch(new AbortController().signal)
  const closed = feed.watch(new AbortController().signal)
  for (const changes of [aborted, left, closed]) await changes.next()
  assert.equal(feed.watchers, 3)

  const waiting = aborted.next()
  controller.abort()
  assert.deepEqual(await within('the end', waiting), { value: undefined, done: true })
  assert.equal(feed.watchers, 2)

  await left.return()
  assert.equal(feed.watchers, 1)

  const last = closed.next()
  feed.close()
  assert.deepEqual(await within('the end', last), { value: undefined, done: true })
  assert.equal(feed.watchers, 0)
  assert.deepEqual(await feed.watch(new AbortController().signal).next(), { value: undefined, done: true })
})
