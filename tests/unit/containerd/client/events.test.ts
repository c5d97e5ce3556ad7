import assert from 'node:assert/strict'
import { test } from 'node:test'
import { create, toBinary } from '@bufbuild/protobuf'
import { AnySchema } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import { ContainerdError } from '../../../../lib/containerd/client/error.ts'
import { decodeEvent, eventFilters } from '../../../../lib/containerd/client/events.ts'
import { ContentDeleteSchema } from '../../../../proto/containerd/events/content_pb.ts'
import { ImageDeleteSchema } from '../../../../proto/containerd/services/images/v1/events_pb.ts'

const any = (typeUrl: string, value: Uint8Array) => create(AnySchema, { typeUrl, value })
const imageDelete = toBinary(ImageDeleteSchema, create(ImageDeleteSchema, { name: 'docker.io/library/alpine:3.20' }))
const contentDelete = toBinary(ContentDeleteSchema, create(ContentDeleteSchema, { digest: 'sha256:00' }))

test('decodeEvent reads image and content events by the bare name that containerd writes', () => {
  assert.deepEqual(
    decodeEvent({
      topic: '/images/delete',
      namespace: 'k8s.io',
      event: any('containerd.services.images.v1.ImageDelete', imageDelete),
    }),
    { kind: 'image', topic: '/images/delete', namespace: 'k8s.io', name: 'docker.io/library/alpine:3.20' },
  )
  assert.deepEqual(
    decodeEvent({
      topic: '/content/delete',
      namespace: 'other',
      event: any('containerd.events.ContentDelete', contentDelete),
    }),
    { kind: 'content', topic: '/content/delete', namespace: 'other', digest: 'sha256:00' },
  )
})

test('decodeEvent reads the field numbers of containerd', () => {
  // Field 1, length 3: what containerd's own encoder writes for a name.
  const wire = new Uint8Array([0x0a, 3, 0x61, 0x3a, 0x62])
  for (const [topic, type] of [
    ['/images/create', 'ImageCreate'],
    ['/images/update', 'ImageUpdate'],
    ['/images/delete', 'ImageDelete'],
  ] as const) {
    const event = any(`containerd.services.images.v1.${type}`, wire)
    assert.deepEqual(decodeEvent({ topic, namespace: 'n', event }), {
      kind: 'image',
      topic,
      namespace: 'n',
      name: 'a:b',
    })
  }
})

test('decodeEvent skips topics that nobody asked for', () => {
  const event = any('containerd.events.TaskOOM', new Uint8Array([0xff]))
  assert.equal(decodeEvent({ topic: '/tasks/oom', namespace: 'k8s.io', event }), undefined)
})

test('decodeEvent refuses an event that does not fit its topic, is empty, or is not protobuf', () => {
  const cases = [
    any('containerd.events.ContentDelete', contentDelete),
    any('containerd.services.images.v1.ImageDelete', new Uint8Array([0x0a, 0xff])),
    any('', imageDelete),
    undefined,
  ]
  for (const event of cases) {
    assert.throws(() => decodeEvent({ topic: '/images/delete', namespace: 'k8s.io', event }), {
      name: 'ContainerdError',
      code: 'unexpected',
      message: /expected containerd\.services\.images\.v1\.ImageDelete in an event of \/images\/delete/,
    })
  }
})

test('decodeEvent returns an event or throws a ContainerdError for any bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array(), (value) => {
      try {
        const event = any('containerd.services.images.v1.ImageDelete', value)
        assert.equal(decodeEvent({ topic: '/images/delete', namespace: 'n', event })?.kind, 'image')
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
