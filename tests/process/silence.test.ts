/** A stopped holder (SIGSTOP): its connections stand, but nothing comes over them. */
import assert from 'node:assert/strict'
import process from 'node:process'
import { test } from 'node:test'
import { makeImage } from '../fixtures/image.ts'
import { layerPath, withMirrors } from '../fixtures/mirrors.ts'
import { waitFor, within } from '../fixtures/wait.ts'

/**
 * Milliseconds that a request may take while nobody answers: the lookup of these mirrors takes at most 2 s, and the race 3 s.
 */
const BOUND = 20_000
const image = makeImage({ layers: 1, layerSize: 200_000 })

const status = async (registry: string) => {
  const response = await fetch(`http://${registry}${layerPath(image)}`)
  await response.arrayBuffer()
  return response.status
}

test('mirror answers in bounded time while its only peer is stopped, and gets the content again once it resumes', async () => {
  await withMirrors(async ({ start }) => {
    const holder = await start(image, {})
    const asker = await start(undefined, { bootstrap: holder.peer })
    await waitFor('the asker finds the layer', async () => (await status(asker.registry)) === 200)
    process.kill(holder.pid, 'SIGSTOP')
    try {
      for (let request = 0; request < 4; request++)
        assert.equal(await within('a miss', status(asker.registry), BOUND), 404)
    } finally {
      process.kill(holder.pid, 'SIGCONT')
    }
    await waitFor('the asker finds the layer again', async () => (await status(asker.registry)) === 200)
  })
})

test('mirror gets what another peer has while one is stopped', async () => {
  await withMirrors(async ({ start }) => {
    const first = await start(image, {})
    const second = await start(image, { bootstrap: first.peer })
    const asker = await start(undefined, { bootstrap: first.peer })
    await waitFor('the asker finds the layer', async () => (await status(asker.registry)) === 200)
    process.kill(second.pid, 'SIGSTOP')
    try {
      for (let request = 0; request < 4; request++)
        assert.equal(await within('the layer', status(asker.registry), BOUND), 200)
    } finally {
      process.kill(second.pid, 'SIGCONT')
    }
  })
})
