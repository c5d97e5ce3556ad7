import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createProbeDoor, isProbeServed, makeProbeImage } from '../../../../lib/containerd/check/probe-door.ts'
import { isProbeRegistry, probeOfLabels, probeOfName, probePort } from '../../../../lib/containerd/probe-name.ts'
import { listen } from '../../../../lib/platform/listen.ts'

const never = new AbortController().signal
const at = (path: string, method = 'GET') => new Request(`http://127.0.0.1:5000${path}`, { method })

test('makeProbeImage makes a different image with a different name each time, for this machine', () => {
  const [one, two] = [makeProbeImage(5000), makeProbeImage(5000)]
  assert.ok(isProbeRegistry(one.registry))
  assert.equal(probePort(one.registry), 5000)
  assert.notEqual(one.registry, two.registry)
  const digests = [one, two].flatMap(({ image }) => image.contents.map(({ descriptor }) => descriptor.digest))
  assert.equal(new Set(digests).size, 6)
  assert.equal(one.layer.digest, one.image.contents[2]?.descriptor.digest)
})

test('isProbeRegistry accepts only probes', () => {
  for (const name of [
    'docker.io',
    'probe.swarmirror.invalid',
    'probe-0123456789abcdef.swarmirror.invalid',
    'probe-0123456789abcdef-5000.swarmirror.invalid.example',
    'x.probe-0123456789abcdef-5000.swarmirror.invalid',
    'probe-0123456789ABCDEF-5000.swarmirror.invalid',
    'probe-0123456789abcdef-5000.swarmirror.invalid:443',
  ]) {
    assert.equal(isProbeRegistry(name), false, name)
    assert.equal(probePort(name), undefined, name)
    assert.equal(probeOfName(`${name}/swarmirror/probe:1`), undefined, name)
    assert.equal(probeOfLabels({ [`containerd.io/distribution.source.${name}`]: 'swarmirror/probe' }), undefined, name)
  }
})

test('probeOfName and probeOfLabels find the probe', () => {
  const { registry, reference, repository } = makeProbeImage(1)
  assert.equal(probeOfName(reference), registry)
  assert.equal(probeOfName(`${registry}/x@sha256:00`), registry)
  assert.equal(probeOfName(registry), registry)
  assert.equal(probeOfName('sha256:00'), undefined)
  const labels = { other: 'x', [`containerd.io/distribution.source.${registry}`]: repository }
  assert.equal(probeOfLabels(labels), registry)
})

test('probe door serves a probe under its name, and records the requests', async () => {
  const door = createProbeDoor()
  const probe = makeProbeImage(5000)
  const { registry, repository, tag, image } = probe
  const served = door.serve(probe)
  const base = `/v2/${repository}`
  const head = door.fetch(at(`${base}/manifests/${tag}?ns=${registry}`, 'HEAD'))
  assert.equal(head?.status, 200)
  assert.equal(await head.text(), '')
  assert.deepEqual(
    ['content-type', 'content-length', 'docker-content-digest'].map((name) => head.headers.get(name)),
    [image.target.mediaType, String(image.target.size), image.target.digest],
  )
  for (const [index, { descriptor, bytes }] of image.contents.entries()) {
    const kind = index === 0 ? 'manifests' : 'blobs'
    const answer = door.fetch(at(`${base}/${kind}/${descriptor.digest}?ns=${registry}`))
    assert.deepEqual(new Uint8Array((await answer?.arrayBuffer()) ?? assert.fail()), new Uint8Array(bytes))
  }
  assert.equal(door.fetch(at(`${base}/manifests/other?ns=${registry}`))?.status, 404)
  assert.deepEqual(served.requests, [
    { method: 'HEAD', part: 'manifest', ns: registry },
    { method: 'GET', part: 'manifest', ns: registry },
    { method: 'GET', part: 'config', ns: registry },
    { method: 'GET', part: 'layer', ns: registry },
    { method: 'GET', part: 'other', ns: registry },
  ])
  served.close()
  assert.equal(door.fetch(at(`${base}/manifests/${tag}?ns=${registry}`))?.status, 404)
})

test('probe door records a lost or changed ns, and does not serve under it', () => {
  const door = createProbeDoor()
  const { registry, repository, tag, ...rest } = makeProbeImage(5000)
  const served = door.serve({ registry, repository, tag, ...rest })
  assert.equal(door.fetch(at(`/v2/${repository}/manifests/${tag}`, 'HEAD'))?.status, 404)
  assert.equal(door.fetch(at(`/v2/${repository}/manifests/${tag}?ns=docker.io`, 'HEAD'))?.status, 404)
  assert.equal(door.fetch(at(`/v2/mirrored/${repository}/manifests/${tag}?ns=proxy.example`, 'HEAD'))?.status, 404)
  assert.deepEqual(
    served.requests.map(({ ns }) => ns),
    [undefined, 'docker.io', 'proxy.example'],
  )
})

test('probe door leaves everything else to the registry door', () => {
  const door = createProbeDoor()
  door.serve(makeProbeImage(5000))
  for (const path of [
    '/v2/',
    '/v2/library/alpine/manifests/3.20?ns=docker.io',
    '/v2/team/probe/manifests/1?ns=registry.example',
    '/v2/swarmirror/probe-0/blobs/sha256:00?ns=docker.io',
    '/v2/swarmirror/probe/tags/list',
    '/other/probe',
  ]) {
    assert.equal(door.fetch(at(path)), undefined, path)
  }
})

test('isProbeServed distinguishes a running probe from one that has ended, and from a door that does not answer', async () => {
  const door = createProbeDoor()
  const options = { host: '127.0.0.1', port: 0, onError: (error: unknown) => assert.fail(String(error)) }
  const listener = await listen((request) => door.fetch(request) ?? new Response(null, { status: 404 }), options)
  const probe = makeProbeImage(listener.port)
  const where = { registry: probe.registry, host: '127.0.0.1', port: listener.port }
  assert.equal(await isProbeServed(where, never), false)
  const served = door.serve(probe)
  assert.equal(await isProbeServed(where, never), true)
  assert.deepEqual(served.requests, [], 'the question is no evidence')
  served.close()
  assert.equal(await isProbeServed(where, never), false)
  assert.equal(await isProbeServed(where, AbortSignal.abort()), undefined)
  await listener.close(AbortSignal.abort())
  assert.equal(await isProbeServed(where, never), false)
})

test('probe door that withholds a probe serves nothing of it, records nothing, and still says that it runs', async () => {
  const door = createProbeDoor()
  const probe = makeProbeImage(5000)
  const { registry, repository, tag, image } = probe
  const served = door.serve(probe)
  served.withhold()
  for (const part of [`manifests/${tag}`, ...image.contents.map(({ descriptor }) => `blobs/${descriptor.digest}`)]) {
    assert.equal(door.fetch(at(`/v2/${repository}/${part}?ns=${registry}`))?.status, 404, part)
  }
  assert.deepEqual(served.requests, [])
  assert.equal(door.fetch(at(`/v2/${repository}/manifests/alive?ns=${registry}`, 'HEAD'))?.status, 200)
  served.close()
  assert.equal(door.fetch(at(`/v2/${repository}/manifests/alive?ns=${registry}`, 'HEAD'))?.status, 404)
})

test("probe door forwards requests for another process's probe to that door, and none to itself", () => {
  const door = createProbeDoor()
  const { registry, repository, tag } = makeProbeImage(40129)
  const path = `/v2/${repository}/manifests/${tag}?ns=${registry}`
  const sent = door.fetch(new Request(`http://127.0.0.1:5000${path}`))
  assert.deepEqual([sent?.status, sent?.headers.get('location')], [307, `http://127.0.0.1:40129${path}`])
  assert.equal(door.fetch(new Request(`http://127.0.0.1:40129${path}`))?.status, 404)
})
