import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseDescriptor } from '../../../lib/oci/manifest.ts'
import { digestOf, makeImage, makeIndex } from '../../fixtures/image.ts'

test('makeImage makes the same bytes on every machine and runtime', () => {
  const image = makeIndex([
    makeImage({ seed: 1 }),
    makeImage({ seed: 2, platform: { os: 'linux', architecture: 'arm64' } }),
  ])
  assert.equal(image.target.digest, 'sha256:46ecf83780f55ade470fa03c2a951f42ab58af33ec02593320bd14214f382331')
})

test('makeImage describes every content truly, and makes others for another seed', () => {
  const [one, two] = [makeImage({ seed: 1, layers: 2 }), makeImage({ seed: 2, layers: 2 })]
  assert.equal(one.contents.length, 4)
  for (const { descriptor, bytes } of one.contents) {
    assert.deepEqual([descriptor.digest, descriptor.size], [digestOf(bytes), bytes.length])
    assert.ok(!two.contents.some((content) => content.descriptor.digest === descriptor.digest))
  }
})

test('makeIndex keeps the platform of each image', () => {
  const platform = { os: 'linux', architecture: 'arm', variant: 'v7' }
  const arm = makeImage({ platform })
  const index = JSON.parse(new TextDecoder().decode(makeIndex([arm]).contents[0]?.bytes))
  assert.deepEqual(index.manifests[0].platform, platform)
  assert.deepEqual(parseDescriptor(index.manifests[0], 'x'), arm.target)
})
