import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import fc from 'fast-check'
import { createSwarmSeal } from '../../../lib/swarm/datagram-seal.ts'
import { createLogRecorder } from '../../fixtures/log.ts'

const KEY = new Uint8Array(32).fill(1)
const NEXT_KEY = new Uint8Array(32).fill(2)
const STRANGER_KEY = new Uint8Array(32).fill(3)
/** Also sizes beyond those that a network carries in one piece. */
const datagrams = fc.uint8Array({ maxLength: 3_000 })

const UNSEALED = 'datagrams refused: not sealed under the swarm key'
const WRONG_TIME = 'datagrams refused: the clock of a member is wrong, or this one'
const eventsOf = ({ lines }: ReturnType<typeof create>) => lines.map(({ event }) => event)

/** A seal with its own clock, and what it has refused and said of that. */
function create(swarmKeys: readonly [Uint8Array, ...Uint8Array[]] = [KEY]) {
  const { log, lines } = createLogRecorder()
  const clock = { now: 1_800_000_000_000 }
  const seal = createSwarmSeal(log, swarmKeys, () => clock.now)
  return {
    lines,
    refused: () => seal.refused,
    clock,
    seal: (datagram: Uint8Array): Buffer => Buffer.from(seal.seal(datagram)),
    open(sealed: Uint8Array): Buffer | undefined {
      const opened = seal.open(sealed, 5001, '10.0.0.9')
      return opened && Buffer.from(opened)
    },
  }
}

test('a seal opens whatever it has sealed', () => {
  const [a, b] = [create(), create()]
  fc.assert(
    fc.property(datagrams, (datagram) => {
      const sealed = a.seal(datagram)
      assert.equal(sealed.length, datagram.length + 44)
      assert.deepEqual(b.open(sealed), Buffer.from(datagram))
    }),
  )
  assert.equal(b.refused(), 0)
})

test('a seal refuses anything with a changed bit, cut off, or invented', () => {
  const [a, b] = [create(), create()]
  fc.assert(
    fc.property(datagrams, fc.nat(), fc.nat(7), fc.nat(), (datagram, byte, bit, length) => {
      const sealed = a.seal(datagram)
      const changed = Buffer.from(sealed)
      changed[byte % changed.length] = (changed[byte % changed.length] ?? 0) ^ (1 << bit)
      for (const forged of [changed, sealed.subarray(0, length % sealed.length), datagram])
        assert.equal(b.open(forged), undefined)
      assert.deepEqual(b.open(sealed), Buffer.from(datagram), 'and that changes nothing')
    }),
  )
  assert.deepEqual(eventsOf(b), [UNSEALED])
})

test('a seal seals under its first key and opens under any', () => {
  const [old, first, next, stranger] = [
    create([KEY]),
    create([KEY, NEXT_KEY]),
    create([NEXT_KEY, KEY]),
    create([STRANGER_KEY]),
  ]
  const opens = (from: typeof old, to: typeof old) =>
    to.open(from.seal(Buffer.from('anything')))?.toString() === 'anything'
  assert.deepEqual(
    [opens(old, next), opens(first, next), opens(next, first), opens(first, old)],
    [true, true, true, true],
  )
  assert.deepEqual([opens(next, old), opens(stranger, next), opens(next, stranger)], [false, false, false])
})

test('a seal refuses a datagram once the clocks differ by more than a minute, and says by how much', () => {
  for (const [skew, isOpened] of [
    [60_000, true],
    [-60_000, true],
    [62_000, false],
    [-62_000, false],
    [86_400_000, false],
  ] as const) {
    const [a, b] = [create(), create()]
    a.clock.now += skew
    assert.equal(b.open(a.seal(Buffer.from('x'))) !== undefined, isOpened, `${skew} ms`)
    const told = { level: 'warn', event: WRONG_TIME, fields: { from: '10.0.0.9:5001', secondsAhead: skew / 1000 } }
    assert.deepEqual(b.lines, isOpened ? [] : [told])
  }
})

test('a seal opens each datagram once while its time is right', () => {
  const [a, b] = [create(), create()]
  const sealed = Array.from({ length: 200 }, (_, i) => a.seal(Buffer.from([i])))
  for (let second = 0; second <= 60; second += 20) {
    for (const [i, bytes] of sealed.entries()) {
      assert.equal(b.open(bytes) !== undefined, second === 0, `datagram ${i} after ${second} s`)
    }
    b.clock.now += 20_000
  }
  assert.equal(b.refused(), 600)
  assert.deepEqual(b.lines, [], 'a network may repeat a datagram')
})

test('a seal confuses no datagrams, however many come', () => {
  const [a, b] = [create(), create()]
  const last = a.seal(Buffer.from('remembered'))
  b.open(last)
  for (let i = 0; i < 150_000; i++) {
    if (i % 1_000 === 0) for (const { clock } of [a, b]) clock.now += 1_000
    assert.ok(b.open(a.seal(Buffer.from('x'))) !== undefined)
  }
  assert.equal(b.refused(), 0)
})

test('a seal shows nothing: the same datagram looks different each time, and every bit of it is random', () => {
  const { seal } = create()
  const [rounds, length] = [2_000, 100]
  const ones = new Array<number>(8 * (length + 44)).fill(0)
  for (let i = 0; i < rounds; i++) {
    for (const [at, byte] of seal(Buffer.alloc(length)).entries())
      for (let bit = 0; bit < 8; bit++) ones[8 * at + bit] = (ones[8 * at + bit] ?? 0) + ((byte >> bit) & 1)
  }
  // Ten standard deviations.
  const most = 10 * Math.sqrt(rounds / 4)
  for (const [bit, count] of ones.entries())
    assert.ok(Math.abs(count - rounds / 2) < most, `bit ${bit} is set ${count} times of ${rounds}`)
})

test('a seal keeps to its documented format', () => {
  const sodium = createRequire(import.meta.url)('sodium-native') as {
    crypto_secretbox_open_easy(plain: Buffer, box: Buffer, nonce: Buffer, key: Buffer): boolean
  }
  // HKDF-SHA256 (RFC 5869) with an empty salt, and one block of output.
  const extracted = createHmac('sha256', Buffer.alloc(32)).update(KEY).digest()
  const key = createHmac('sha256', extracted).update('swarmirror/datagram/1\x01').digest()
  const { seal, clock } = create()
  const sealed = seal(Buffer.from('a datagram'))
  const plain = Buffer.alloc(sealed.length - 40)
  assert.ok(sodium.crypto_secretbox_open_easy(plain, sealed.subarray(24), sealed.subarray(0, 24), key))
  assert.equal(plain.readUInt32LE(0), clock.now / 1000)
  assert.equal(plain.toString('latin1', 4), 'a datagram')
})

test('a seal counts all that it refuses, and warns once for each reason, with an address', () => {
  const [a, b] = [create(), create()]
  for (let count = 0; count < 100; count++) b.open(Buffer.alloc(count))
  a.clock.now -= 90_000
  for (let count = 0; count < 10; count++) b.open(a.seal(Buffer.from('late')))
  assert.equal(b.refused(), 110)
  assert.deepEqual(b.lines, [
    { level: 'warn', event: UNSEALED, fields: { from: '10.0.0.9:5001' } },
    { level: 'warn', event: WRONG_TIME, fields: { from: '10.0.0.9:5001', secondsAhead: -90 } },
  ])
})
