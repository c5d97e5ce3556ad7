import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { AnnouncementSeal } from '../../../../lib/swarm/dht/seal.ts'

const seal = new AnnouncementSeal(new Uint8Array(32).fill(1))
const bytes = fc.uint8Array({ minLength: 32, maxLength: 32 })
const address = fc.record({ host: fc.ipV4(), port: fc.nat(65_535) })

test('AnnouncementSeal opens what it sealed, as the same door', () => {
  fc.assert(
    fc.property(bytes, bytes, address, (topic, publicKey, door) => {
      const addresses = seal.seal(topic, publicKey, door)
      assert.equal(addresses.length, 3)
      for (const { host, port } of addresses) {
        assert.match(host, /^(\d{1,3}\.){3}\d{1,3}$/)
        assert.ok(Number.isInteger(port) && port >= 0 && port <= 65_535)
      }
      assert.deepEqual(seal.open(topic, publicKey, addresses), door)
    }),
  )
})

test('AnnouncementSeal opens nothing that is for another topic, key or door, or of another swarm', () => {
  const other = new AnnouncementSeal(new Uint8Array(32).fill(2))
  fc.assert(
    fc.property(bytes, bytes, address, address, bytes, (topic, publicKey, door, elsewhere, different) => {
      fc.pre(door.host !== elsewhere.host || door.port !== elsewhere.port)
      const [, first, second] = seal.seal(topic, publicKey, door)
      assert.ok(first !== undefined && second !== undefined)
      const opened = [
        seal.open(different, publicKey, [door, first, second]),
        seal.open(topic, different, [door, first, second]),
        seal.open(topic, publicKey, [elsewhere, first, second]),
        seal.open(topic, publicKey, [door, second, first]),
        other.open(topic, publicKey, [door, first, second]),
      ]
      assert.deepEqual(opened, [undefined, undefined, undefined, undefined, undefined])
    }),
  )
})

test('AnnouncementSeal opens no record of any other form', () => {
  fc.assert(
    fc.property(bytes, bytes, fc.array(address, { maxLength: 5 }), (topic, publicKey, addresses) => {
      assert.equal(seal.open(topic, publicKey, addresses), undefined)
    }),
  )
})
