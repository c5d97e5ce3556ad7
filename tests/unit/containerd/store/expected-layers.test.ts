/** How soon the store finds what it is told to expect, and at what price. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { digestKey, type Key } from '../../../../lib/oci/key.ts'
import { makeContainerd, withStore } from '../../../doubles/containerd-double.ts'
import { makeImage } from '../../../fixtures/image.ts'
import { waitFor } from '../../../fixtures/wait.ts'

const OPEN = 'registry.example/team/app:1'

test('containerd store finds what is expected without a look at everything', async () => {
  const containerd = makeContainerd()
  const open = makeImage({ seed: 1 })
  const layers = makeImage({ seed: 2, layers: 20 }).contents.slice(2)
  containerd.put(...open.contents)
  containerd.name(open, OPEN)
  await withStore(containerd, { settleDelays: [] }, async (store, held) => {
    await waitFor('the first look', () => held.has(OPEN as Key))
    for (const layer of layers) {
      const key = digestKey(layer.descriptor.digest)
      store.expect?.(layer.descriptor.digest)
      containerd.putSilently(layer)
      await waitFor('the layer is told of', () => held.has(key))
    }
    assert.equal(containerd.looks.begun, 1)
  })
})

test('containerd store finds what is expected as soon as containerd says that it has come, without a look at everything', async () => {
  const containerd = makeContainerd()
  const [open, other] = [makeImage({ seed: 1 }), makeImage({ seed: 3 }).contents.at(-1) ?? assert.fail()]
  const layers = makeImage({ seed: 2, layers: 20 }).contents.slice(2)
  containerd.put(...open.contents)
  containerd.name(open, OPEN)
  await withStore(containerd, { settleDelays: [] }, async (store, held) => {
    await waitFor('the first look', () => held.has(OPEN as Key))
    for (const { descriptor } of layers) store.expect?.(descriptor.digest)
    // So that the glances that follow what is expected have missed it.
    await sleep(200)
    const before = performance.now()
    for (const layer of layers) {
      containerd.putAndTell(layer)
      await waitFor('the layer is told of', () => held.has(digestKey(layer.descriptor.digest)))
    }
    // Without being told, each would be found by the next glance, a second later.
    assert.ok(performance.now() - before < 10_000)
    assert.equal(containerd.looks.begun, 1)
    containerd.putAndTell(other)
    await waitFor('a look for what nobody expects', () => containerd.looks.begun === 2)
  })
})

test('containerd store finds what is expected when it comes later, and keeps it over a look that was begun before', async () => {
  const containerd = makeContainerd()
  const [open, layer] = [makeImage({ seed: 1 }), makeImage({ seed: 2 }).contents.at(-1) ?? assert.fail()]
  const key = digestKey(layer.descriptor.digest)
  containerd.put(...open.contents)
  containerd.name(open, OPEN)
  await withStore(containerd, { settleDelays: [] }, async (store, held, removed) => {
    await waitFor('the first look', () => held.has(OPEN as Key))
    const look = containerd.holdUp()
    containerd.name(open, `${OPEN}1`)
    await waitFor('the second look', () => containerd.looks.begun === 2)
    store.expect?.(layer.descriptor.digest)
    await sleep(100)
    containerd.putSilently(layer)
    await waitFor('the layer is told of', () => held.has(key))
    look()
    await waitFor('the end of that look', () => held.has(`${OPEN}1` as Key))
    assert.deepEqual(removed, [])
    containerd.unput(layer.descriptor.digest)
    await waitFor('a look without the layer', () => !held.has(key))
    containerd.putSilently(layer)
    await waitFor('the layer is told of again', () => held.has(key))
  })
})

test('containerd store tells no longer of expected content that went without a word, as after a pull that failed', async () => {
  const containerd = makeContainerd()
  const [open, layer] = [makeImage({ seed: 1 }), makeImage({ seed: 2 }).contents.at(-1) ?? assert.fail()]
  const key = digestKey(layer.descriptor.digest)
  containerd.put(...open.contents)
  containerd.name(open, OPEN)
  await withStore(containerd, { settleDelays: [] }, async (store, held) => {
    await waitFor('the first look', () => held.has(OPEN as Key))
    for (const _ of [1, 2]) {
      store.expect?.(layer.descriptor.digest)
      containerd.putSilently(layer)
      await waitFor('the layer is told of', () => held.has(key))
      containerd.unputSilently(layer.descriptor.digest)
      await waitFor('it is told of no longer', () => !held.has(key))
    }
    assert.equal(containerd.looks.begun, 1)
  })
})
