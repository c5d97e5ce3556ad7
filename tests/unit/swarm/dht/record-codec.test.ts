import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { decodeRecords, encodeRecord } from '../../../../lib/swarm/dht/hyperdht-rpc.ts'

const byte = fc.integer({ min: 0, max: 255 })
const address = fc
  .tuple(fc.tuple(byte, byte, byte, byte), fc.integer({ min: 0, max: 65_535 }))
  .map(([bytes, port]) => ({ host: bytes.join('.'), port }))
const record = fc
  .tuple(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.array(address, { maxLength: 3 }))
  .map(([publicKey, relayAddresses]) => ({ publicKey, relayAddresses }))

test('decodeRecords gives back what encodeRecord wrote, as a node of hyperdht puts it into an answer', () => {
  fc.assert(
    fc.property(fc.array(record, { maxLength: 20 }), (records) => {
      // Without the flags before the peer and the signature after it; and after the last one, hyperdht's `bump`.
      const stored = records.map((of) => encodeRecord(of, new Uint8Array(64)).subarray(1, -64))
      const answer = Buffer.concat([Buffer.from([records.length]), ...stored, Buffer.from([0])])
      assert.deepEqual(decodeRecords(answer), records)
    }),
  )
})

test('decodeRecords takes anything, and gives no more records than are whole', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      for (const { publicKey, relayAddresses } of decodeRecords(bytes)) {
        assert.equal(publicKey.length, 32)
        for (const { host, port } of relayAddresses) {
          assert.match(host, /^(\d{1,3}\.){3}\d{1,3}$/)
          assert.ok(port >= 0 && port <= 65_535)
        }
      }
    }),
  )
  assert.deepEqual(decodeRecords(new Uint8Array()), [])
})

test('encodeRecord takes no more addresses than a record holds', () => {
  const relayAddresses = Array.from({ length: 4 }, () => ({ host: '1.2.3.4', port: 5 }))
  assert.throws(() => encodeRecord({ publicKey: new Uint8Array(32), relayAddresses }, new Uint8Array(64)), RangeError)
})
