import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { after, test } from 'node:test'
import type { ProbeDoor } from '../../lib/containerd/check/probe-door.ts'
import { isProbeRegistry } from '../../lib/containerd/probe-name.ts'
import { isUnreadable } from '../../lib/containerd/rule.ts'
import { configFile, configure, containerd, plain, probeFindings, severities, withTools } from './harness/probing.ts'

after(() => containerd.close())

test('probe recognizes a containerd that asks the mirror and keeps content, and leaves nothing behind', async () => {
  await configure({})
  await withTools(async ({ probe, traces, lines }) => {
    const before = await traces()
    const evidence = await probe()
    assert.ok(!isUnreadable(evidence) && evidence.error === undefined, 'it was pulled')
    const { registry, requests } = evidence
    assert.ok(isProbeRegistry(registry))
    assert.deepEqual(
      requests.map(({ method, part, ns }) => [method, part, ns === registry]),
      [
        ['HEAD', 'manifest', true],
        ['GET', 'manifest', true],
        ['GET', 'config', true],
        ['GET', 'layer', true],
      ],
    )
    assert.deepEqual(await severities(evidence), ['probe-mirror-asked ok', 'probe-layers-kept ok'])
    assert.deepEqual(await traces(), before)
    assert.deepEqual(lines, [])
  })
})

test('probe recognizes a containerd that does not ask the mirror', async () => {
  await configure({ rest: '' })
  await withTools(async ({ probe, traces }) => {
    const before = await traces()
    const evidence = await probe()
    assert.deepEqual(await severities(evidence), ['probe-mirror-asked error', 'probe-layers-kept unknown'])
    assert.match((await probeFindings(evidence))[0]?.seen ?? '', /did not ask .*no such host/)
    assert.deepEqual(await traces(), before)
  })
})

test('probe recognizes a containerd that discards unpacked layers', async () => {
  const table = '[plugins."io.containerd.grpc.v1.cri".containerd]\nsnapshotter = "native"\n'
  await configure({ containerd: 'discard_unpacked_layers = true' })
  assert.ok(plain.endsWith(table), 'the line belongs to that table')
  await withTools(async ({ probe, traces }) => {
    const before = await traces()
    assert.deepEqual(await severities(await probe()), ['probe-mirror-asked ok', 'probe-layers-kept error'])
    assert.deepEqual(await traces(), before)
  })
})

test('probe is impossible where CRI does not run', async () => {
  await containerd.stop()
  await writeFile(
    configFile,
    plain.replace('disabled_plugins = [', 'disabled_plugins = [\n"io.containerd.grpc.v1.cri",'),
  )
  await containerd.start()
  await withTools(async ({ probe, traces }) => {
    const before = await traces()
    const evidence = await probe()
    assert.deepEqual(await severities(evidence), ['probe-mirror-asked unknown', 'probe-layers-kept unknown'])
    assert.match(JSON.stringify(evidence), /without its CRI plugin/)
    assert.deepEqual(await traces(), before)
  })
})

test('probe recognizes a request that lost its ns on the way', async () => {
  await configure({})
  const withoutNs = (door: ProbeDoor) => (request: Request) => {
    const url = new URL(request.url)
    url.searchParams.delete('ns')
    return door.fetch(new Request(url, request)) ?? new Response(null, { status: 404 })
  }
  await withTools(async ({ probe }) => {
    const evidence = await probe()
    assert.deepEqual(await severities(evidence), ['probe-mirror-asked error', 'probe-layers-kept unknown'])
    assert.match((await probeFindings(evidence))[0]?.seen ?? '', /without ns instead of ns=probe-/)
  }, withoutNs)
})

test('probe recognizes a door that containerd cannot reach', async () => {
  await configure({})
  await withTools(async ({ probe }) => {
    // The discard port, on which nothing listens.
    const evidence = await probe({ address: { host: '127.0.0.1', port: 9 } })
    assert.deepEqual(await severities(evidence), ['probe-mirror-asked error', 'probe-layers-kept unknown'])
    assert.match(
      (await probeFindings(evidence))[0]?.seen ?? '',
      /told to ask http:\/\/127\.0\.0\.1:9 and cannot reach it/,
    )
  })
})
