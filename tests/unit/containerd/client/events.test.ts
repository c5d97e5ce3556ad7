import assert from 'node:assert/strict'
import { test } from 'node:test'
import { create } from '@bufbuild/protobuf'
import { AnySchema } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import { ContainerdError } from '../../../../lib/containerd/client/error.ts'
import { decodeEvent, eventFilters } from '../../../../lib/containerd/client/events.ts'

const any = (typeUrl: string, value: Uint8Array) => create(AnySchema, { typeUrl, value })
// Field 1, length 9: what containerd's own encoder writes for a digest.
const wire = new Uint8Array([0x0a, 9, ...new TextEncoder().encode('sha256:00')])

test('decodeEvent reads the digest of content by the bare name and the field number that containerd writes', () => {
  for (const [topic, type] of [
    ['/content/create', 'ContentCreate'],
    ['/content/delete', 'ContentDelete'],
  ] as const) {
    const event = any(`containerd.events.${type}`, wire)
    assert.deepEqual(decodeEvent({ topic, event }), { topic, digest: 'sha256:00' })
  }
})

test('decodeEvent tells only the topic of an event about images', () => {
  const event = any('containerd.services.images.v1.ImageDelete', new Uint8Array([0x0a, 3, 0x61, 0x3a, 0x62]))
  assert.deepEqual(decodeEvent({ topic: '/images/delete', event }), { topic: '/images/delete' })
})

test('decodeEvent refuses an event about content that does not fit its topic, is empty, or is not protobuf', () => {
  const cases = [
    any('containerd.services.images.v1.ImageDelete', wire),
    any('containerd.events.ContentDelete', new Uint8Array([0x0a, 0xff])),
    any('', wire),
    undefined,
  ]
  for (const event of cases) {
    assert.throws(() => decodeEvent({ topic: '/content/delete', event }), {
      name: 'ContainerdError',
      code: 'unexpected',
      message: /expected containerd\.events\.ContentDelete in an event of \/content\/delete/,
    })
  }
})

test('decodeEvent returns an event or throws a ContainerdError for any bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array(), (value) => {
      try {
        const event = any('containerd.events.ContentDelete', value)
        assert.equal(decodeEvent({ topic: '/content/delete', event }).topic, '/content/delete')
      } catch (error) {
        assert.ok(error instanceof ContainerdError)
      }
    }),
  )
})

test('eventFilters are alternatives that each name topic and namespace', () => {
  assert.deepEqual(eventFilters(['/images/create', '/content/delete'], 'k8s.io'), [
    'topic=="/images/create",namespace=="k8s.io"',
    'topic=="/content/delete",namespace=="k8s.io"',
  ])
})
