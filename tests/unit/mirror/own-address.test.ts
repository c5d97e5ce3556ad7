import assert from 'node:assert/strict'
import type { NetworkInterfaceInfo } from 'node:os'
import { test } from 'node:test'
import { watchOwnAddress } from '../../../lib/mirror/own-address.ts'
import { Readiness } from '../../../lib/observe/readiness.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import { createLogRecorder } from '../../fixtures/log.ts'

const LOST = 'this machine no longer has the address 10.0.0.5, at which other nodes reach it'
const LOOK = 10_000

/** A machine whose interfaces have these addresses, and a watch there for 10.0.0.5. */
function machine(has: Record<string, string[]>, isNamed = false) {
  const recorder = createLogRecorder()
  const scene = {
    ...{ has, isExhausted: false, clock: new ManualClock(), readiness: new Readiness() },
    ...{ errors: [] as string[], lines: recorder.lines },
  }
  const interfaces = () => {
    if (scene.isExhausted) throw new Error('uv_interface_addresses returned EMFILE')
    return Object.fromEntries(
      Object.entries(scene.has).map(([name, addresses]) => [
        name,
        addresses.map((address) => ({ family: 'IPv4', address, internal: false }) as NetworkInterfaceInfo),
      ]),
    )
  }
  const { clock, readiness } = scene
  const onChanged = ({ message }: Error) => void scene.errors.push(message)
  const watch = watchOwnAddress('10.0.0.5', isNamed, { readiness, log: recorder.log, onChanged, interfaces, clock })
  return { ...scene, scene, watch }
}

test('own address: a mirror is not ready while its machine has lost it, and does not end', async () => {
  const { scene, clock, readiness, errors } = machine({ eth0: ['10.0.0.5'], docker0: ['172.17.0.1'] })
  await clock.pass(LOOK)
  assert.deepEqual(readiness.reasons, [])
  scene.has = { eth0: [], docker0: ['172.17.0.1'] }
  await clock.pass(LOOK)
  assert.deepEqual(readiness.reasons, [LOST])
  scene.has = { eth0: [], br0: ['10.0.0.5'] }
  await clock.pass(LOOK)
  assert.deepEqual(readiness.reasons, [])
  assert.deepEqual(errors, [])
})

test('own address: a mirror ends if its interface has another one, unless a setting names the old one', async () => {
  for (const [isNamed, ends] of [
    [false, ['the address of eth0 has changed from 10.0.0.5 to 10.0.0.9: this mirror must start again']],
    [true, []],
  ] as const) {
    const { scene, clock, readiness, errors } = machine({ eth0: ['10.0.0.5'] }, isNamed)
    scene.has = { eth0: ['10.0.0.9'] }
    await clock.pass(LOOK)
    assert.deepEqual(errors, ends)
    assert.deepEqual(readiness.reasons, [LOST])
  }
})

test('own address: a mirror outlives a system that cannot tell its addresses for a while', async () => {
  const { scene, clock, readiness, lines } = machine({ eth0: ['10.0.0.5'] })
  scene.isExhausted = true
  await clock.pass(LOOK)
  assert.deepEqual(readiness.reasons, [])
  assert.deepEqual(
    lines.map(({ level, event }) => [level, event]),
    [['error', 'the addresses of this machine cannot be read']],
  )
  scene.isExhausted = false
  scene.has = { eth0: [] }
  await clock.pass(LOOK)
  assert.deepEqual(readiness.reasons, [LOST])
})

test('own address: one that the machine never had is not watched, and a closed watch looks no more', async () => {
  assert.equal(machine({ eth0: ['192.168.0.2'] }).clock.pending, 0)
  const { watch, clock } = machine({ eth0: ['10.0.0.5'] })
  watch.close()
  assert.equal(clock.pending, 0)
})
