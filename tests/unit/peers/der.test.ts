import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { der, objectIdentifier, TAG, time } from '../../../lib/peers/der.ts'
import { createTlsIdentity } from '../../../lib/peers/tls.ts'
import { SWARM_KEY } from '../../fixtures/credentials.ts'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

test('der puts tag and length in front', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 70_000 }), (content) => {
      const bytes = Buffer.from(der(TAG.octetString, content))
      const more = (bytes[1] ?? 0) & 0x80 ? (bytes[1] ?? 0) & 0x7f : 0
      const length = more === 0 ? bytes[1] : bytes.readUIntBE(2, more)
      assert.equal(bytes[0], TAG.octetString)
      assert.equal(length, content.length)
      // As short as can be.
      assert.equal(more, content.length < 0x80 ? 0 : content.length < 0x100 ? 1 : content.length < 0x10000 ? 2 : 3)
      assert.deepEqual(new Uint8Array(bytes.subarray(2 + more)), content)
    }),
    { numRuns: 50 },
  )
})

test('object identifiers and times have the bytes that X.690 and RFC 5280 give them', () => {
  // ecdsa-with-SHA256 and id-at-commonName, as every certificate of P-256 has them.
  assert.equal(hex(objectIdentifier('1.2.840.10045.4.3.2')), '06082a8648ce3d040302')
  assert.equal(hex(objectIdentifier('2.5.4.3')), '0603550403')
  assert.equal(hex(time(new Date('2049-12-31T23:59:59.999Z'))), `170d${hex(Buffer.from('491231235959Z'))}`)
  assert.equal(hex(time(new Date('2050-01-01T00:00:00Z'))), `180f${hex(Buffer.from('20500101000000Z'))}`)
})

test('certificates say what they are for', () => {
  const { ca, cert, servername } = createTlsIdentity([SWARM_KEY])
  const [authority, node] = [new X509Certificate(ca[0] ?? ''), new X509Certificate(cert)]
  assert.deepEqual([authority.ca, node.ca], [true, false])
  assert.ok(node.checkIssued(authority))
  assert.equal(node.subjectAltName, `DNS:${servername}`)
  assert.equal(node.checkHost(servername), servername)
})
