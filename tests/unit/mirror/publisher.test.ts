import assert from 'node:assert/strict'
import { test } from 'node:test'
import { publish } from '../../../lib/mirror/publisher.ts'
import { Readiness } from '../../../lib/observe/readiness.ts'
import { createPolicy } from '../../../lib/oci/policy.ts'
import type { ContentStore } from '../../../lib/store/store.ts'
import type { Router } from '../../../lib/swarm/router.ts'
import { createMemoryStore } from '../../doubles/memory-store.ts'
import { MemorySwarm } from '../../doubles/memory-swarm.ts'
import { peerOf } from '../../doubles/peers.ts'
import { makeImage } from '../../fixtures/image.ts'
import { createLogRecorder } from '../../fixtures/log.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

const image = makeImage({ layers: 1, layerSize: 100 })

/** A publisher of a store with an image, in a swarm that is slow to take announcements. */
function start({ announceTimeout = 60_000, settle = Promise.withResolvers<void>(), store = storeOfImage() } = {}) {
  const { log, lines } = createLogRecorder()
  const router = new MemorySwarm().join(peerOf('self'))
  let calls = 0
  const slow: Router = {
    lookup: (key, signal) => router.lookup(key, signal),
    known: (key) => router.known(key),
    advertise: (keys) => router.advertise(keys),
    withdraw: (keys) => router.withdraw(keys),
    settled(signal) {
      calls++
      const aborted = new Promise<never>((_, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason), { once: true }),
      )
      return Promise.race([settle.promise, aborted])
    },
  }
  const readiness = new Readiness()
  const publisher = publish({ store, router: slow, policy: createPolicy(), readiness, log }, announceTimeout)
  return { publisher, readiness, lines, settle, store, calls: () => calls }
}

function storeOfImage() {
  const store = createMemoryStore()
  store.addImage(image)
  return store
}

const NOT_YET = ['the content is not announced to the swarm yet']
const isAnnouncing = ({ reasons }: Readiness) => reasons.join() === NOT_YET.join()

test('publish waits until the first content has reached the swarm, but not for later content', async () => {
  const { publisher, readiness, settle, store, calls, lines } = start()
  assert.deepEqual(readiness.reasons, ['the content of the store is not known yet'])
  await waitFor('the store has told', () => isAnnouncing(readiness))
  assert.equal(publisher.held.size, image.contents.length)
  settle.resolve()
  await waitFor('nothing is waited for', () => readiness.reasons.length === 0)
  store.addImage(makeImage({ layers: 1, layerSize: 100, seed: 2 }))
  await waitFor('more is held', () => publisher.held.size > image.contents.length)
  assert.deepEqual([readiness.reasons, calls()], [[], 1])
  await publisher.close()
  assert.ok(lines.every(({ level }) => level === 'info'))
})

test('publish keeps following the store while its first announcement is under way', async () => {
  const { publisher, readiness, store } = start()
  await waitFor('the store has told', () => isAnnouncing(readiness))
  store.addImage(makeImage({ layers: 1, layerSize: 100, seed: 2 }))
  await waitFor('more is held', () => publisher.held.size > image.contents.length)
  assert.deepEqual(readiness.reasons, NOT_YET)
  await within('the end', publisher.close())
})

test('publish stops waiting if announcing takes too long, and says so', async () => {
  const { publisher, readiness, lines } = start({ announceTimeout: 50 })
  await waitFor('the store has told', () => publisher.held.size > 0)
  await waitFor('nothing is waited for', () => readiness.reasons.length === 0)
  assert.deepEqual(
    lines.filter(({ level }) => level === 'warn').map(({ event, fields }) => [event, fields]),
    [['announcing the content takes too long', { ms: 50 }]],
  )
  await publisher.close()
})

test('publish ends at once when it is closed before the first announcement is out', async () => {
  const { publisher, readiness, lines } = start()
  await waitFor('the store has told', () => isAnnouncing(readiness))
  await within('the end', publisher.close())
  assert.ok(lines.every(({ level }) => level === 'info'))
})

const LOST = 'the store is no longer followed'

test('publish says for good that the store is no longer followed, whatever becomes of announcements', async () => {
  const store: ContentStore = {
    ...createMemoryStore(),
    async *watch() {
      yield { added: [], removed: [] }
      throw new Error('the disk is gone')
    },
  }
  const { publisher, readiness, settle, lines } = start({ store: store as ReturnType<typeof storeOfImage> })
  await waitFor('the failure', () => readiness.reasons.includes(LOST))
  settle.resolve()
  await within('the end', publisher.close())
  assert.deepEqual(readiness.reasons, [LOST])
  assert.deepEqual(lines.filter(({ level }) => level === 'error').length, 1)
})
