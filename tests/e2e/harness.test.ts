import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, afterEach, test } from 'node:test'
import { createCluster, requestsFor, testCluster, until } from './harness/index.ts'
import { sweep } from './harness/run.ts'

const cluster = await testCluster({ nodes: [{ name: 'a', start: ['containerd'] }], registry: true })
const a = cluster.node('a')
const { registry } = cluster

/** The longest time to wait for an answer, in seconds: where one comes, and where none does. */
const [ANSWERED, SILENT] = ['20', '1']
/** Asks upstream from node A. Returns curl's exit code. */
const askUpstream = async (seconds = ANSWERED, url = `${registry.url}/v2/`) => {
  const asked = await a.tryExec('curl', ['--silent', '--output', '/dev/null', '--max-time', seconds, url])
  return asked.code
}
const CURL_TIMED_OUT = 28
const CURL_REFUSED = 7
const CURL_RESET = 56

/** Undoes what a test leaves, so that it does not affect the next one. */
afterEach(async () => {
  for (const { network } of [a, registry]) {
    await network.heal()
    for (const direction of ['in', 'out'] as const) await network.unshape(direction)
  }
})

test('Namespace.cutOff drops everything until heal', async () => {
  assert.equal(await askUpstream(), 0)
  await a.network.cutOff()
  assert.equal(await askUpstream(SILENT), CURL_TIMED_OUT)
  await a.network.heal()
  assert.equal(await askUpstream(), 0)
})

test('Namespace.loseIncoming drops the given share', async () => {
  await a.network.loseIncoming(100)
  assert.equal(await askUpstream(SILENT), CURL_TIMED_OUT)
  await a.network.loseIncoming(0)
  assert.equal(await askUpstream(), 0)
})

test('Namespace.loseLarge drops large answers and lets small ones pass', async () => {
  const url = await blobUrl('large', 100_000)
  await registry.network.loseLarge(1_000)
  assert.equal(await askUpstream(), 0)
  assert.equal(await askUpstream(SILENT, url), CURL_TIMED_OUT)
  await registry.network.heal()
  assert.equal(await askUpstream(ANSWERED, url), 0)
})

test('Namespace.resetIncoming answers TCP packets of other hosts with RST until heal', async () => {
  await registry.network.resetIncoming()
  assert.equal(await askUpstream(), CURL_REFUSED)
  await registry.network.heal()
  // The transfer takes 20 s unless something happens.
  const url = await blobUrl('reset', 20_000_000)
  await registry.network.shape('out', 1_000_000)
  const asked = askUpstream('60', url)
  const before = await a.network.carried()
  await until('a byte', async () => (await a.network.carried()).in > before.in + 100_000)
  await registry.network.resetIncoming()
  assert.equal(await asked, CURL_RESET)
})

test('Namespace.carried counts the bytes of a body in both directions', async () => {
  const size = 3_000_000
  const url = await blobUrl('carried', size)
  const before = [await a.network.carried(), await registry.network.carried()]
  await a.exec('curl', ['--silent', '--output', '/dev/null', url])
  const after = [await a.network.carried(), await registry.network.carried()]
  const [came, went] = [(after[0]?.in ?? 0) - (before[0]?.in ?? 0), (after[1]?.out ?? 0) - (before[1]?.out ?? 0)]
  // The count includes the packets' headers: a twentieth if packets have 1,500 bytes, hardly anything if they are large.
  for (const carried of [came, went]) assert.ok(carried > size && carried < size * 1.06, `${carried} of ${size} bytes`)
})

test('Namespace.setNames makes a name resolve to all its addresses at once', async () => {
  const resolve = async () => (await a.tryExec('getent', ['ahostsv4', 'swarm.test'])).stdout.match(/^\S+(?= +STREAM)/gm)
  assert.equal(await resolve(), null)
  await a.network.setNames({ 'swarm.test': ['10.87.0.77', '10.87.0.78'] })
  assert.deepEqual(await resolve(), ['10.87.0.77', '10.87.0.78'])
  await a.network.setNames({})
  assert.equal(await resolve(), null)
})

/** The URL of a layer of about that many bytes in the registry. */
async function blobUrl(seed: string, size: number): Promise<string> {
  const image = await registry.push(await cluster.makeImage({ seed, layers: [size] }), `harness/${seed}:v1`)
  return `${registry.url}/v2/harness/${seed}/blobs/${image.own.layers[0]?.digest}`
}

for (const direction of ['in', 'out'] as const) {
  test(`Namespace.shape bounds ${direction} until unshape`, async () => {
    const size = 3_000_000
    const url = await blobUrl(direction, size)
    const seconds = async () =>
      Number(await a.exec('curl', ['--silent', '--output', '/dev/null', '--write-out', '%{time_total}', url]))
    // A receives what the registry's host sends.
    const network = direction === 'in' ? a.network : registry.network
    await network.shape(direction, size)
    assert.ok((await seconds()) > 0.8, 'expected about a second at this rate')
    await network.unshape(direction)
    // It takes some hundredths of a second if nothing else uses the processors.
    await until('a transfer at full speed', async () => (await seconds()) < 0.5)
  })
}

test('Daemon stops, starts, kills, pauses and resumes its process', async () => {
  await registry.daemon.pause()
  assert.equal(await askUpstream(SILENT), CURL_TIMED_OUT)
  await registry.daemon.resume()
  await until('the registry to answer', async () => (await askUpstream()) === 0)
  await registry.daemon.kill()
  assert.equal(await registry.daemon.exited, 'SIGKILL')
  assert.equal(await askUpstream(), CURL_REFUSED)
  await registry.daemon.start()
  assert.equal(await askUpstream(), 0)
  await a.containerd.restart()
  assert.equal(await a.containerd.stop(), 0)
  await assert.rejects(() => a.containerd.stop(), /containerd of a does not run/)
  await a.containerd.start()
})

test('createCluster says why a part does not become ready, and leaves nothing behind', async () => {
  const own = `swe2e-${process.pid}-`
  const count = async () =>
    (await a.exec('ip', ['netns', 'list'])).split('\n').filter((name) => name.startsWith(own)).length
  const before = await count()
  const options = { nodes: [{ name: 'a', containerdConfig: () => 'version = "broken' }] }
  await assert.rejects(
    () => createCluster(options),
    /containerd of a ended with 1:[\s\S]*(?:failed to load TOML|failed to unmarshal TOML)/,
  )
  assert.equal(await count(), before)
})

test('Registry.requestsDuring returns the requests of that time, and no others', async () => {
  const image = await registry.push(await cluster.makeImage({ seed: 'log', layers: [1000] }), 'team/log:v1')
  const asked = await registry.requestsDuring(() => a.pull(image.reference))
  assert.deepEqual([...new Set(asked.map(({ client }) => client))], [a.address])
  assert.deepEqual(asked.map(({ method, target }) => `${method} ${target.split('?')[0]}`).slice(0, 2), [
    'HEAD /v2/team/log/manifests/v1',
    `GET /v2/team/log/manifests/${image.target.digest}`,
  ])
  assert.equal(requestsFor(image.digests, asked).length, image.digests.length)
  assert.deepEqual(await registry.requestsDuring(async () => undefined), [])
})

test('Node.wrongFiles names the files that differ from those the image was made of', async () => {
  const image = await registry.push(await cluster.makeImage({ seed: 'right', layers: [5000, 70_000] }), 'team/files:v1')
  const other = await cluster.makeImage({ seed: 'other', layers: [5000, 70_000] })
  await a.pull(image.reference)
  assert.deepEqual(await a.wrongFiles(image.reference, image), [])
  assert.deepEqual(
    (await a.wrongFiles(image.reference, other)).map((line) => line.split(':')[0]),
    ['layer-0/name', 'layer-0/data', 'layer-1/name', 'layer-1/data'],
  )
})

/** Starts a process that makes a cluster and then waits to be ended. */
async function startOther(): Promise<{ child: ChildProcess; prefix: string }> {
  const script = join(await a.makeDirectory(`other-${Math.random().toString(36).slice(2)}`), 'other.ts')
  const harness = join(import.meta.dirname, 'harness', 'cluster.ts')
  const lines = [
    `import { createCluster } from ${JSON.stringify(harness)}`,
    `const cluster = await createCluster({ nodes: [{ name: 'x', start: ['containerd'] }] })`,
    `process.stdout.write('made')`,
    `setInterval(() => cluster, 1000)`,
  ]
  await writeFile(script, lines.join('\n'))
  const child = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] })
  children.push(child)
  assert.ok(child.stdout)
  // The process may end before it says anything.
  const said = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])
  assert.equal(String(said[0]), 'made')
  return { child, prefix: `swe2e-${child.pid}-` }
}
const children: ChildProcess[] = []
after(async () => {
  for (const child of children.filter(({ exitCode, signalCode }) => exitCode === null && signalCode === null)) {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  sweep()
})

/** Whether a namespace of that cluster, or a process in one, exists. */
async function isThere(prefix: string): Promise<boolean> {
  const names = (await a.exec('ip', ['netns', 'list'])).split('\n')
  const mounted = await a.exec('cat', ['/proc/self/mountinfo'])
  return names.some((name) => name.startsWith(prefix)) || mounted.includes(prefix)
}

test('createCluster leaves nothing behind after Ctrl-C', async () => {
  const { child, prefix } = await startOther()
  assert.equal(await isThere(prefix), true)
  child.kill('SIGINT')
  const [, signal] = await once(child, 'exit')
  assert.equal(signal, 'SIGINT')
  assert.equal(await isThere(prefix), false)
})

test('sweep removes what a killed process left behind, and nothing of a living one', async () => {
  const living = await startOther()
  const killed = await startOther()
  killed.child.kill('SIGKILL')
  await once(killed.child, 'exit')
  assert.equal(await isThere(killed.prefix), true)
  const swept = sweep()
  assert.ok(
    swept.some((id) => id.startsWith(killed.prefix)),
    `swept ${swept}`,
  )
  assert.equal(await isThere(killed.prefix), false)
  assert.equal(await isThere(living.prefix), true)
  assert.equal(await askUpstream(), 0)
})
