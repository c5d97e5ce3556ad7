import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Descriptor } from '../../../lib/oci/digest.ts'
import { OciError } from '../../../lib/oci/error.ts'
import { childrenOf, mayBeManifest, sniffManifest } from '../../../lib/oci/manifest.ts'
import {
  DOCKER_MANIFEST,
  DOCKER_MANIFEST_LIST,
  isIndexMediaType,
  isManifestMediaType,
  isMediaType,
  MANIFEST_SIZE_LIMIT,
  OCI_CONFIG,
  OCI_INDEX,
  OCI_LAYER,
  OCI_MANIFEST,
} from '../../../lib/oci/media-type.ts'
import * as arbitrary from '../../fixtures/arbitrary.ts'
import { DOCKER, makeImage, makeIndex } from '../../fixtures/image.ts'

const SHA = `sha256:${'0'.repeat(64)}`
const child = { mediaType: OCI_LAYER, digest: SHA, size: 3 }
const config = { mediaType: OCI_CONFIG, digest: SHA, size: 2 }
const encode = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))

test('isManifestMediaType and isIndexMediaType know the types of OCI and Docker, and not schema 1', () => {
  for (const type of [OCI_MANIFEST, DOCKER_MANIFEST]) {
    assert.deepEqual([isManifestMediaType(type), isIndexMediaType(type)], [true, false])
  }
  for (const type of [OCI_INDEX, DOCKER_MANIFEST_LIST]) {
    assert.deepEqual([isManifestMediaType(type), isIndexMediaType(type)], [true, true])
  }
  for (const type of [
    ...[OCI_CONFIG, OCI_LAYER, DOCKER.config, '', 'application/json', 'toString'],
    ...[
      'application/vnd.docker.distribution.manifest.v1+json',
      'application/vnd.docker.distribution.manifest.v1+prettyjws',
    ],
  ]) {
    assert.deepEqual([isManifestMediaType(type), isIndexMediaType(type)], [false, false])
  }
})

for (const [what, document, expected] of [
  ['an OCI manifest', { schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: [] }, OCI_MANIFEST],
  ['an OCI manifest without mediaType', { schemaVersion: 2, config, layers: [child] }, OCI_MANIFEST],
  ['an OCI index without mediaType', { schemaVersion: 2, manifests: [] }, OCI_INDEX],
  ['a Docker manifest', { schemaVersion: 2, mediaType: DOCKER_MANIFEST, config, layers: [] }, DOCKER_MANIFEST],
  ['a Docker list', { schemaVersion: 2, mediaType: DOCKER_MANIFEST_LIST, manifests: [] }, DOCKER_MANIFEST_LIST],
  ['a manifest of an unknown mediaType', { schemaVersion: 2, mediaType: 'a/b', config, layers: [] }, OCI_MANIFEST],
  ['a manifest that says it is an index', { schemaVersion: 2, mediaType: OCI_INDEX, config, layers: [] }, undefined],
  ['an index that says it is a manifest', { schemaVersion: 2, mediaType: OCI_MANIFEST, manifests: [] }, undefined],
  ['both at once', { schemaVersion: 2, config, layers: [], manifests: [] }, undefined],
  ['schema 1', { schemaVersion: 1, fsLayers: [] }, undefined],
  ['no schemaVersion', { config, layers: [] }, undefined],
  ['an image config', { architecture: 'amd64', os: 'linux', config: {}, rootfs: {} }, undefined],
  ['a list', [], undefined],
  ['null', null, undefined],
  ['a number', 2, undefined],
] as const) {
  test(`sniffManifest reads ${what}`, () => {
    assert.equal(sniffManifest(encode(document)), expected)
  })
}

test('sniffManifest is undefined for what is not JSON in UTF-8, and for what is too large', () => {
  assert.equal(sniffManifest(new Uint8Array()), undefined)
  assert.equal(sniffManifest(new Uint8Array([0xff, 0x7b, 0x7d])), undefined)
  assert.equal(sniffManifest(new TextEncoder().encode('{"schemaVersion":2,"manifests":[')), undefined)
  const padding = ' '.repeat(MANIFEST_SIZE_LIMIT)
  assert.equal(sniffManifest(new TextEncoder().encode(`{"schemaVersion":2,"manifests":[]}${padding}`)), undefined)
})

test('mayBeManifest tells by the first bytes what is no JSON object', () => {
  for (const text of ['{', '{"schemaVersion":2}', ' \r\n\t{', '\ufeff{', '', '    '])
    assert.ok(mayBeManifest(new TextEncoder().encode(text)), text)
  for (const text of ['[', '"{', '2', 'a{']) assert.ok(!mayBeManifest(new TextEncoder().encode(text)), text)
  const [gzip, zstd] = [Uint8Array.of(0x1f, 0x8b, 8), Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd)]
  assert.ok(!mayBeManifest(gzip) && !mayBeManifest(zstd))
})

test('childrenOf gives config and layers in their order, with media types as they stand there', () => {
  const image = makeImage({ layers: 3, mediaTypes: DOCKER })
  const [manifest, ...rest] = image.contents
  assert.deepEqual(
    childrenOf(manifest?.bytes ?? assert.fail(), image.target.mediaType),
    rest.map((content) => content.descriptor),
  )
})

test('childrenOf gives the manifests of an index', () => {
  const images = [makeImage({ seed: 1 }), makeImage({ seed: 2 })]
  const index = makeIndex(images)
  const bytes = index.contents[0]?.bytes ?? assert.fail()
  assert.deepEqual(
    childrenOf(bytes, OCI_INDEX),
    images.map((image) => image.target),
  )
})

test('childrenOf takes null for an empty list, and ignores subject and unknown fields', () => {
  assert.deepEqual(childrenOf(encode({ schemaVersion: 2, config, layers: null, subject: child }), OCI_MANIFEST), [
    config,
  ])
  assert.deepEqual(childrenOf(encode({ schemaVersion: 2, manifests: null, x: 1 }), OCI_INDEX), [])
  const more = { ...child, urls: ['http://x'], annotations: {}, platform: { os: 'linux' }, data: '' }
  assert.deepEqual(childrenOf(encode({ manifests: [more] }), DOCKER_MANIFEST_LIST), [child])
})

for (const [what, document, mediaType, problem] of [
  ['a blob', {}, OCI_LAYER, /not the media type of a manifest/],
  ['a list', [], OCI_MANIFEST, /not a JSON object/],
  ['an index as a manifest', { manifests: [] }, OCI_MANIFEST, /not the shape/],
  ['a manifest as an index', { config, layers: [] }, OCI_INDEX, /not the shape/],
  ['both at once', { config, layers: [], manifests: [] }, OCI_MANIFEST, /not the shape/],
  ['an index without manifests', { schemaVersion: 2 }, OCI_INDEX, /not the shape/],
  ['what says it is something else', { mediaType: OCI_INDEX, config }, OCI_MANIFEST, /not the shape/],
  ['layers that are no list', { config, layers: {} }, OCI_MANIFEST, /layers is not a list/],
  ['a config that is no descriptor', { config: [], layers: [] }, OCI_MANIFEST, /config is not a descriptor/],
  ['a layer that is null', { config, layers: [child, null] }, OCI_MANIFEST, /layers\[1\] is not a descriptor/],
  ...[
    ['no media type', ''],
    ['a media type that no header can carry', 'application/\u4e2d'],
    ['a media type of two lines', 'application/json\nx: y'],
    ['a media type that is too long', `application/${'x'.repeat(300)}`],
  ].map(
    ([what, mediaType]) =>
      [
        `a layer with ${what}`,
        { config, layers: [{ ...child, mediaType }] },
        OCI_MANIFEST,
        /layers\[0\]\.mediaType/,
      ] as const,
  ),
  [
    'a bad digest',
    { manifests: [child, { ...child, digest: 'sha256:x' }] },
    OCI_INDEX,
    /manifests\[1\]\.digest: .*sha256:x/,
  ],
  ['a path for a digest', { manifests: [{ ...child, digest: '../x' }] }, OCI_INDEX, /manifests\[0\]\.digest/],
  ['a negative size', { manifests: [{ ...child, size: -1 }] }, OCI_INDEX, /manifests\[0\]\.size/],
  ['a size with a fraction', { manifests: [{ ...child, size: 1.5 }] }, OCI_INDEX, /manifests\[0\]\.size/],
  ['a size in words', { manifests: [{ ...child, size: '3' }] }, OCI_INDEX, /manifests\[0\]\.size/],
  ['a size beyond precision', { manifests: [{ ...child, size: 2 ** 53 }] }, OCI_INDEX, /manifests\[0\]\.size/],
] as const) {
  test(`childrenOf refuses ${what} and names it`, () => {
    assert.throws(
      () => childrenOf(encode(document), mediaType),
      (error) => error instanceof OciError && error.code === 'MANIFEST_INVALID' && problem.test(error.message),
    )
  })
}

test('childrenOf gives back the descriptors that were written', () => {
  const descriptor: fc.Arbitrary<Descriptor> = fc.record(
    {
      mediaType: fc.string({ minLength: 1 }).filter(isMediaType),
      digest: arbitrary.digest,
      size: fc.maxSafeNat(),
    },
    { noNullPrototype: true },
  )
  fc.assert(
    fc.property(descriptor, fc.array(descriptor), (first, rest) => {
      assert.deepEqual(childrenOf(encode({ schemaVersion: 2, config: first, layers: rest }), OCI_MANIFEST), [
        first,
        ...rest,
      ])
      assert.deepEqual(childrenOf(encode({ schemaVersion: 2, manifests: rest }), OCI_INDEX), rest)
    }),
  )
})

test('sniffManifest throws nothing and childrenOf nothing but OciError, and neither accepts what the other refuses to be', () => {
  const json = fc.oneof(
    fc.json(),
    fc
      .record(
        {
          schemaVersion: fc.constantFrom(1, 2, '2'),
          mediaType: fc.constantFrom(OCI_INDEX, OCI_MANIFEST, DOCKER_MANIFEST, 7, null),
          config: fc.oneof(fc.constant(config), fc.jsonValue()),
          layers: fc.oneof(fc.constant([child]), fc.jsonValue()),
          manifests: fc.oneof(fc.constant([child]), fc.jsonValue()),
        },
        { requiredKeys: [] },
      )
      .map((value) => JSON.stringify(value)),
  )
  fc.assert(
    fc.property(
      fc.oneof(
        json.map((text) => new TextEncoder().encode(text)),
        fc.uint8Array(),
      ),
      (bytes) => {
        const sniffed = sniffManifest(bytes)
        assert.ok(sniffed === undefined || (isManifestMediaType(sniffed) && mayBeManifest(bytes.subarray(0, 64))))
        for (const mediaType of [OCI_MANIFEST, OCI_INDEX]) {
          try {
            childrenOf(bytes, mediaType)
            if (sniffed !== undefined) assert.equal(isIndexMediaType(sniffed), isIndexMediaType(mediaType))
          } catch (error) {
            if (!(error instanceof OciError)) throw error
          }
        }
      },
    ),
    { numRuns: 1000 },
  )
})
