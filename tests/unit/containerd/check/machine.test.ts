import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  type AskTime,
  compareClocks,
  countImages,
  lookAtCertsDirectory,
  lookAtContent,
  MACHINE_RULES,
  type MachineView,
} from '../../../../lib/containerd/check/machine.ts'
import { lookAtPorts, type PortToCheck } from '../../../../lib/containerd/check/ports.ts'
import { askContainerd, toldSettings } from '../../../../lib/containerd/check/told.ts'
import { ContainerdError, type ContainerdErrorCode } from '../../../../lib/containerd/client/error.ts'
import { digestOf } from '../../../../lib/oci/image.ts'
import { withTemporaryDirectory } from '../../../fixtures/image.ts'

const never = new AbortController().signal

/** What the rule of that name finds in a view that has what it reads. */
async function found(id: string, view: Partial<MachineView>) {
  const rule = MACHINE_RULES.find((rule) => rule.id === id) ?? assert.fail(id)
  const [finding, ...more] = await rule.judge(view as MachineView)
  assert.deepEqual(more, [])
  return finding
}

const clockOf = async (peers: readonly AskTime[]) =>
  (await found('clock', { clocks: await compareClocks(peers, never) })) ?? assert.fail()
const portsOf = async (ports: readonly PortToCheck[], runsHere: () => Promise<boolean>) =>
  (await found('ports', { ports: await lookAtPorts(ports, runsHere) })) ?? assert.fail()
const SECOND = 1_000

test('clock is unknown where nobody can be asked, and says why', async () => {
  const silent = async () => undefined
  for (const [peers, reason] of [
    [[], /no other node is known/],
    [[silent], /no other node answers/],
  ] as const) {
    const { severity, seen } = await clockOf(peers)
    assert.equal(severity, 'unknown')
    assert.match(seen, reason)
  }
})

for (const [seconds, severity, seen] of [
  [0, 'ok', /is that of 1 other node$/],
  [20, 'ok', /20 s behind/],
  [-20, 'ok', /20 s ahead/],
  [90, 'warning', /90 s behind/],
  [-90, 'warning', /90 s ahead/],
] as const) {
  test(`clock that differs by ${seconds} s`, async () => {
    const found = await clockOf([async () => Date.now() + seconds * SECOND])
    assert.equal(found.severity, severity)
    assert.match(found.seen, seen)
  })
}

test('clock is compared with the middle of several, so that a wrong one does not count', async () => {
  const peers = [0, 0, 900].map((seconds) => async () => Date.now() + seconds * SECOND)
  assert.equal((await clockOf([...peers, async () => undefined])).severity, 'ok')
})

test('clock ends with its signal', async () => {
  const reason = new Error('enough')
  await assert.rejects(compareClocks([], AbortSignal.abort(reason)), reason)
})

const nobody = async () => false
const somebody = async () => true

test('ports are found free, taken, or taken by the mirror itself, for TCP and for UDP', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const socket = createSocket('udp4')
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const tcp = { flag: 'listen', host: '127.0.0.1', port }
  const udp = { flag: 'peer-listen', host: '127.0.0.1', port: socket.address().port, udp: true }
  try {
    assert.equal((await portsOf([{ ...tcp, port: 0 }], nobody)).severity, 'ok')
    const taken = await portsOf([tcp, udp], nobody)
    assert.equal(taken.severity, 'error')
    const words = `--listen 127.0.0.1:${port} is in use \\(TCP: EADDRINUSE\\); --peer-listen \\S+ is in use \\(UDP: EADDRINUSE\\)`
    assert.match(taken.seen, new RegExp(`^${words}$`))
    const elsewhere = await portsOf([{ ...tcp, host: '192.0.2.1' }], nobody)
    // Deno names another reason.
    assert.match(
      elsewhere.seen,
      /^--listen 192\.0\.2\.1:\d+ (is no address of this machine|cannot be opened) \(TCP: E[A-Z]+\)$/,
    )
    const ours = await portsOf([tcp, udp], somebody)
    assert.deepEqual([ours.severity, ours.seen], ['ok', 'a mirror runs here, and answers at its admin door'])
  } finally {
    socket.close()
    server.close()
    await once(server, 'close')
  }
})

for (const [code, seen] of [
  ['denied', /may not use it \(said the system\)/],
  ['unavailable', /nobody listens there/],
  ['timeout', /no answer in time/],
  ['unsupported', /not containerd/],
  ['unexpected', /not containerd/],
] as const) {
  test(`containerd-socket that is ${code}`, async () => {
    const refusal = new ContainerdError(code satisfies ContainerdErrorCode, 'said the system')
    const finding = await found('containerd-socket', { socket: { path: '/run/containerd.sock', refusal } })
    assert.equal(finding?.severity, 'error')
    assert.match(finding.seen, seen)
    assert.ok(finding.remedy)
  })
}

/** A containerd with that many images by namespace. */
const holding = (images: Readonly<Record<string, number>>, own: string) => ({
  client: {
    namespaces: async () => Object.keys(images),
    images: async () => Array.from({ length: images[own] ?? 0 }) as never[],
  },
  imagesIn: async (name: string) => Array.from({ length: images[name] ?? 0 }),
})

for (const [images, own, severity] of [
  [{ 'k8s.io': 3, default: 1 }, 'k8s.io', 'ok'],
  [{}, 'k8s.io', 'ok'],
  [{ moby: 0 }, 'nowhere', 'ok'],
  [{ default: 1 }, 'k8s.io', 'warning'],
  [{ 'k8s.io': 0, default: 1 }, 'k8s.io', 'warning'],
  [{ 'k8s.io': 0, default: 1 }, 'nowhere', 'error'],
] as const) {
  test(`containerd-namespace ${own} of ${JSON.stringify(images)}`, async () => {
    const { client, imagesIn } = holding(images, own)
    const finding = await found('containerd-namespace', { images: await countImages(client, imagesIn, own, never) })
    assert.equal(finding?.severity, severity)
    if (severity !== 'ok') assert.deepEqual(finding?.remedy?.lines, ['SWARMIRROR_CONTAINERD_NAMESPACE=default'])
  })
}

test('containerd-too-old is told of what is, and of nothing else', async () => {
  for (const [version, expected] of [
    ['v1.5.18', true],
    ['0.9.1', true],
    ['1.6.0', false],
    ['v2.2.0-k3s1', false],
    ['unknown', false],
  ] as const) {
    assert.equal((await found('containerd-too-old', { version }))?.severity === 'error', expected, version)
  }
  assert.equal(await found('containerd-too-old', { version: { unreadable: 'not asked' } }), undefined)
})

test('containerd-content tells by which way content is read', () =>
  withTemporaryDirectory(async (directory) => {
    const saying = (root: string | undefined, content = 1) => ({
      contentPlacement: async () => ({ root, policy: 'shared' }),
      async *listContent() {
        for (let at = 0; at < content; at++) yield { digest: digestOf(new Uint8Array([at])), size: 1, labels: {} }
      },
    })
    const told = async (client: ReturnType<typeof saying>, contentRoot?: string) =>
      (await found('containerd-content', { content: await lookAtContent(client, contentRoot, never) })) ?? assert.fail()
    assert.match((await told(saying(undefined))).seen, /does not say/)
    const fresh = await told(saying(directory, 0))
    assert.deepEqual([fresh.severity, fresh.seen.includes('first pull')], ['unknown', true])
    const missing = await told(saying(directory))
    assert.equal(missing.severity, 'warning')
    assert.match(missing.seen, /through the socket: ENOENT/)
    await mkdir(join(directory, 'ingest'))
    const there = await told(saying('/elsewhere'), directory)
    assert.deepEqual([there.severity, there.seen], ['ok', `content is read from the files in ${directory}`])
  }))

test('certs-dir is writable, not there, or no directory', () =>
  withTemporaryDirectory(async (directory) => {
    const look = async (path: string) => {
      const certsDir = { path, seen: await lookAtCertsDirectory(path), hostsCommand: 'swarmirror hosts' }
      return (await found('certs-dir', { certsDir }))?.severity
    }
    assert.equal(await look(directory), 'ok')
    assert.equal(await look(join(directory, 'missing')), 'warning')
    await writeFile(join(directory, 'file'), '')
    assert.equal(await look(join(directory, 'file')), 'error')
  }))

test('askContainerd keeps what is told when a part is refused', async () => {
  const client = { version: async () => ({ version: '1.7.24', revision: '' }), plugins: async () => [] }
  const refused = { info: () => Promise.reject(new ContainerdError('unsupported', 'no CRI here')) }
  assert.deepEqual(await askContainerd(client, refused, never), {
    version: '1.7.24',
    criConfig: { unreadable: 'no CRI here' },
    plugins: [],
  })
  for (const info of [{}, { config: '{' }, { config: '[]' }] as Record<string, string>[]) {
    const facts = await askContainerd(client, { info: async () => info }, never)
    assert.deepEqual(Object.values(toldSettings(facts)), [undefined, undefined, undefined], JSON.stringify(info))
  }
  assert.deepEqual((await askContainerd(client, { info: async () => ({ config: '{"a":1}' }) }, never)).criConfig, {
    a: 1,
  })
})
