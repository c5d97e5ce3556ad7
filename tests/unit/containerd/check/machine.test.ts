import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import {
  countImages,
  lookAtCertsDirectory,
  lookAtContent,
  MACHINE_RULES,
  type MachineView,
} from '../../../../lib/containerd/check/machine.ts'
import { ContainerdError, type ContainerdErrorCode } from '../../../../lib/containerd/client/error.ts'
import { blobPath } from '../../../../lib/containerd/store/files.ts'
import { digestOf } from '../../../../lib/oci/make-image.ts'
import { withTemporaryDirectory } from '../../../fixtures/image.ts'

const never = new AbortController().signal

/** The finding of the rule of that name in a view. */
async function found(id: string, view: Partial<MachineView>) {
  const rule = MACHINE_RULES.find((rule) => rule.id === id) ?? assert.fail(id)
  const [finding, ...more] = await rule.judge(view as MachineView)
  assert.deepEqual(more, [])
  return finding
}

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
const holding = (images: Readonly<Record<string, number>>) => ({
  in: (name: string) => ({
    namespaces: async () => Object.keys(images),
    images: async () => Array.from({ length: images[name] ?? 0 }) as never[],
  }),
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
    const finding = await found('containerd-namespace', { images: await countImages(holding(images), own, never) })
    assert.equal(finding?.severity, severity)
    if (severity !== 'ok') assert.deepEqual(finding?.remedy?.lines, ['SWARMIRROR_CONTAINERD_NAMESPACE=default'])
  })
}

test('containerd-too-old reports an old containerd, and no other', async () => {
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

test('containerd-content says how content is read', () =>
  withTemporaryDirectory(async (directory) => {
    const info = (at: number) => ({ digest: digestOf(new Uint8Array([at])), size: 1, labels: {} })
    const saying = (root: string | undefined, content = 1, collected = false) => ({
      contentRoot: async () => root,
      contentInfo: async () => (collected ? undefined : info(0)),
      async *listContent() {
        for (let at = 0; at < content; at++) yield info(at)
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
    const empty = await told(saying(directory, 0))
    assert.deepEqual([empty.severity, empty.seen], ['ok', `content is read from the files in ${directory}`])
    const collected = await told(saying(directory, 1, true))
    assert.deepEqual(collected, empty, 'what is gone from the list, too, is not missing')
    // The root of another containerd, or of this one before something was mounted over it.
    const foreign = await told(saying('/elsewhere'), directory)
    assert.equal(foreign.severity, 'warning')
    const first = blobPath(directory, digestOf(new Uint8Array([0])))
    assert.match(foreign.seen, new RegExp(`through the socket: containerd has .*, and ${first} is not there`))
    await mkdir(dirname(first), { recursive: true })
    await writeFile(first, '')
    const there = await told(saying('/elsewhere'), directory)
    assert.deepEqual([there.severity, there.seen], ['ok', `content is read from the files in ${directory}`])
  }))

test('certs-dir is writable, missing, or no directory', () =>
  withTemporaryDirectory(async (directory) => {
    const look = async (path: string) => {
      const certsDir = await lookAtCertsDirectory(path, 'swarmirror hosts')
      return (await found('certs-dir', { certsDir }))?.severity
    }
    assert.equal(await look(directory), 'ok')
    assert.equal(await look(join(directory, 'missing')), 'warning')
    await writeFile(join(directory, 'file'), '')
    assert.equal(await look(join(directory, 'file')), 'error')
  }))
