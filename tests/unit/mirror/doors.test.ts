import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { mock, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { cut, openDoor } from '../../../lib/mirror/doors.ts'
import { PeerError } from '../../../lib/peers/error.ts'
import { sourceResponse } from '../../../lib/platform/byte-source.ts'
import type { Admission } from '../../../lib/platform/listener.ts'
import { ArrivalError } from '../../../lib/store/arrival.ts'
import { requestText, withRawClient } from '../../fixtures/http.ts'
import { createLogRecorder } from '../../fixtures/log.ts'
import { waitFor } from '../../fixtures/wait.ts'

const MINUTE = 60_000

/** Waits until `is` has been true for a while, without a timer. */
async function settled(is: () => boolean): Promise<void> {
  for (let turns = 0; turns < 1_000; turns = is() ? turns + 1 : 0) await setImmediate()
}

/** Whether a client that takes nothing of a body without an end still has its place after that time, which does not really pass. */
async function hasPlaceAfter(minutes: number, name: 'listen' | 'peer-listen'): Promise<boolean> {
  const chunk = new Uint8Array(256 * 1024)
  const over = Promise.withResolvers<void>()
  let given = 0
  const source = {
    async next() {
      given++
      return chunk
    },
    async cancel() {
      over.resolve()
    },
  }
  const answer = (_: Request, admission: Admission) => {
    admission.take(1)
    admission.trust()
    return sourceResponse(source, { headers: { 'content-length': String(2 ** 40) } })
  }
  let now = performance.now()
  mock.timers.enable({ apis: ['setTimeout'] })
  mock.method(performance, 'now', () => now)
  const door = await openDoor(name, { host: '127.0.0.1', port: 0 }, answer, createLogRecorder().log)
  const client = connect(door.port, '127.0.0.1').on('error', () => undefined)
  try {
    client.write(requestText('GET', '/'))
    let before = 0
    await settled(() => {
      const isStill = given > 0 && given === before
      before = given
      return isStill
    })
    now += minutes * MINUTE
    mock.timers.tick(minutes * MINUTE)
    let place = door.running
    await settled(() => {
      const isStill = door.running === place
      place = door.running
      return isStill
    })
    return place > 0
  } finally {
    client.destroy()
    await over.promise
    await cut(door)
    mock.restoreAll()
    mock.timers.reset()
  }
}

for (const [name, minutes] of [
  ['peer-listen', 1],
  ['listen', 10],
] as const) {
  test(`--${name} keeps the place of a client that takes nothing for no more than ${minutes} min`, async () => {
    assert.equal(await hasPlaceAfter(minutes * 0.9, name), true)
    assert.equal(await hasPlaceAfter(minutes * 1.1, name), false)
  })
}

for (const [what, cause, level, event] of [
  ['whose download containerd has given up', new ArrivalError('its writer has given up'), 'info', 'answer ended early'],
  ['for which no peer is left', new PeerError('no peer left'), 'info', 'answer ended early'],
  [
    'of a file that cannot be read',
    new ArrivalError('broken', { cause: new Error('EIO') }),
    'error',
    'answer broke off',
  ],
  ['that fails otherwise', new Error('a mistake'), 'error', 'answer broke off'],
] as const) {
  test(`a door tells of a body ${what} at level ${level}`, async () => {
    const { log, lines } = createLogRecorder()
    const chunks = [Promise.resolve(Uint8Array.of(1)), Promise.reject(cause)]
    for (const chunk of chunks) chunk.catch(() => undefined)
    const source = { next: () => chunks.shift() ?? assert.fail('it is over'), cancel: async () => undefined }
    const answer = () => sourceResponse(source, { headers: { 'content-length': '2' } })
    const door = await openDoor('peer-listen', { host: '127.0.0.1', port: 0 }, answer, log)
    try {
      await withRawClient(door.port, async (client) => {
        client.send(requestText('GET', '/'))
        assert.equal(await client.ended(), 'fin')
      })
      const [line = assert.fail()] = await waitFor('its line', () => lines.length > 0 && lines)
      assert.deepEqual([line.level, line.event, line.fields.door], [level, event, 'peer-listen'])
    } finally {
      await cut(door)
    }
  })
}
