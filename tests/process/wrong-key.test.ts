/** Mirrors whose swarm key or way of transfer differs from their neighbours'. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type AskedDoor, createBootstrapDoors } from '../../lib/mirror/bootstrap-doors.ts'
import { type Mirror, startMirror } from '../../lib/mirror/mirror.ts'
import { addressOf } from '../../lib/platform/address.ts'
import { never } from '../fixtures/layout.ts'
import { createLogRecorder, type LogLine } from '../fixtures/log.ts'
import { LOOPBACK, withImageLayout } from '../fixtures/mirror.ts'
import { readSettings } from '../fixtures/settings.ts'
import { waitFor } from '../fixtures/wait.ts'

const [OLD, NEW] = ['1', '2'].map((digit) => digit.repeat(64)) as [string, string]

type Start = (flags: readonly string[]) => Promise<Mirror & { readonly lines: readonly LogLine[] }>

/** Flags for doors on free ports of loopback, except for the given ones. */
const doorsBeside = (flags: readonly string[]) =>
  LOOPBACK.filter((_, index) => !flags.includes(LOOPBACK[index - (index % 2)] ?? ''))

async function withMirrors(
  use: (start: Start, settings: (flags: readonly string[]) => ReturnType<typeof readSettings>) => Promise<void>,
) {
  await withImageLayout(async (layout) => {
    const mirrors: Mirror[] = []
    const settings = (flags: readonly string[]) =>
      readSettings({ flags: ['--store', `oci-layout:${layout}`, ...doorsBeside(flags), ...flags], environment: {} })
    try {
      await use(async (flags) => {
        const { log, lines } = createLogRecorder()
        const mirror = await startMirror(settings(flags), log)
        mirrors.push(mirror)
        return { ...mirror, lines }
      }, settings)
    } finally {
      await Promise.all(mirrors.map((mirror) => mirror.close()))
    }
  })
}

test('a door is found to accept, to refuse or to be silent, with TLS and without', () =>
  withMirrors(async (start, settings) => {
    for (const [theirs, cases] of [
      [['--swarm-key', OLD, '--peer-transfer', 'tls'], { accepts: ['tls', OLD], refuses: ['tls', NEW] }],
      [['--swarm-key', OLD, '--peer-transfer', 'plain'], { accepts: ['plain', OLD], refuses: ['plain', NEW] }],
      [['--swarm-key', OLD], { refuses: ['plain', OLD] }],
      [['--swarm-key', OLD, '--peer-transfer', 'plain'], { refuses: ['tls', OLD] }],
      // In the middle of a change of the key.
      [['--swarm-key', `${OLD},${NEW}`], { accepts: ['tls', `${NEW},${OLD}`] }],
      [['--swarm-key', `${NEW},${OLD}`], { accepts: ['tls', `${OLD},${NEW}`] }],
    ] as const) {
      const mirror = await start(theirs)
      for (const [answer, [transfer, key]] of Object.entries<readonly [string, string]>(cases)) {
        const flags = ['--bootstrap', addressOf(mirror.peer), '--peer-transfer', transfer, '--swarm-key', key]
        assert.equal((await askOne(settings(flags)))?.answer, answer, `${theirs} asked with ${flags}`)
      }
      await mirror.close()
    }
    assert.equal((await askOne(settings(['--bootstrap', '127.0.0.1:9', '--swarm-key', OLD])))?.answer, 'silent')
  }))

async function askOne(settings: ReturnType<typeof readSettings>): Promise<AskedDoor | undefined> {
  const doors = createBootstrapDoors(settings)
  try {
    return (await doors.ask(never))[0]
  } finally {
    doors.close()
  }
}

test("a door's answer includes the time, a closed door gives none, and asking ends with its signal", () =>
  withMirrors(async (start, settings) => {
    for (const transfer of ['tls', 'plain']) {
      const flags = ['--swarm-key', OLD, '--peer-transfer', transfer]
      const mirror = await start(flags)
      const own = settings([...flags, '--bootstrap', addressOf(mirror.peer)])
      const door = await askOne(own)
      // The header has whole seconds.
      assert.ok(door?.aheadMs !== undefined && door.aheadMs > -1_000 && door.aheadMs < 10_000, `${door?.aheadMs} ms`)
      await mirror.close()
      assert.deepEqual(await askOne(own), { host: '127.0.0.1', answer: 'silent' })
    }
    const doors = createBootstrapDoors(settings(['--bootstrap', '127.0.0.1:9']))
    const reason = new Error('enough')
    await assert.rejects(doors.ask(AbortSignal.abort(reason)), reason)
    doors.close()
  }))

test('mirror with another swarm key than its neighbours is not ready, says so, and recovers when the key matches', () =>
  withMirrors(async (start) => {
    const neighbour = await start(['--swarm-key', OLD])
    const wrong = await start(['--swarm-key', NEW, '--bootstrap', addressOf(neighbour.peer)])
    const said = '127.0.0.1 refuses this node: its swarm key or --peer-transfer differs'
    await waitFor('its reason', () => wrong.readiness.reasons.join() === said)
    const ready = await fetch(`http://${addressOf(wrong.admin)}/readyz`)
    assert.deepEqual([ready.status, await ready.text()], [503, `not ready: ${said}\n`])
    const status = (await (await fetch(`http://${addressOf(wrong.admin)}/api/status`)).json()) as { reasons: unknown }
    assert.deepEqual(status.reasons, [said])
    assert.equal(neighbour.readiness.reasons.length, 0)
    await neighbour.close()
    // In its place comes one with the same key.
    await start(['--swarm-key', NEW, '--peer-listen', addressOf(neighbour.peer)])
    await waitFor('it is ready', () => wrong.readiness.reasons.length === 0)
    assert.deepEqual(wrong.readiness.notes, [])
  }))

test('mirror with another --peer-transfer than its neighbours says so, and is ready', () =>
  withMirrors(async (start) => {
    const neighbour = await start(['--swarm-key', OLD])
    const other = await start([
      ...['--swarm-key', OLD, '--peer-transfer', 'plain'],
      ...['--bootstrap', addressOf(neighbour.peer)],
    ])
    await waitFor('it is ready', () => other.readiness.reasons.length === 0)
    const said = '127.0.0.1 refuses this node: its swarm key or --peer-transfer differs'
    assert.deepEqual(other.readiness.notes, [said])
  }))
