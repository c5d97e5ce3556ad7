import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { test } from 'node:test'
import { IMAGES_PLUGIN, OLD_PLUGIN } from '../../lib/containerd/check/config/merge.ts'
import { importImage } from '../fixtures/containerd.ts'
import { makeImage } from '../fixtures/image.ts'
import { createCheckedNode, EX_CONFIG, wrong } from './harness/checked-node.ts'
import { removeHosts, writeHosts } from './harness/hosts.ts'
import { byMajor, containerdConfig, logLines, REGISTRY_NAME, testCluster, until } from './harness/index.ts'

// Real daemons with one configuration after the other: what `check` and `serve` say about it, what a pull then really does, and
// that a start succeeds once somebody has done exactly what they printed.
const cluster = await testCluster({ nodes: [{ name: 'a', start: [] }], registry: true, mirrored: [] })
const node = await createCheckedNode(cluster, 'a')
const { node: a, mirror, paths, right } = node
const image = await cluster.registry.push(await cluster.makeImage({ seed: 'check', layers: [1_000] }), 'team/check:v1')

/** The newest file version, and the plugin that holds the image settings in it. */
const [VERSION, PLUGIN] = byMajor({ 1: ['version = 2', OLD_PLUGIN], 2: ['version = 3', IMAGES_PLUGIN] })
const REGISTRY = `plugins."${PLUGIN}".registry`
const LAYERS = byMajor({ 1: `plugins."${OLD_PLUGIN}".containerd`, 2: `plugins."${IMAGES_PLUGIN}"` })
const CONFIG_PATH = `config_path = ${JSON.stringify(paths.certs)}`
const WITHOUT = right.replace(CONFIG_PATH, '')
const LIST = right.replace(CONFIG_PATH, `config_path = ${JSON.stringify(`${paths.certs}:/etc/docker/certs.d`)}`)

/** What a pull through CRI does: whether it asks the hosts of hosts.toml, and whether the layers survive a garbage collection. */
async function pulled(): Promise<{ asks: boolean; keeps: boolean }> {
  // Only this file says where that registry is.
  const certs = node.flags['certs-dir'] ?? ''
  await writeHosts(certs, REGISTRY_NAME, { hosts: [{ url: cluster.registry.url }] })
  try {
    const error = await a.pull(image.reference).then(
      () => undefined,
      (error: Error) => error,
    )
    if (error !== undefined) {
      assert.match(error.message, /lookup registry\.test|unknown service runtime\.v1\.ImageService/)
      return { asks: false, keeps: false }
    }
    await collectGarbage()
    const content = await a.content()
    await a.removeImage(image.reference)
    await collectGarbage()
    return { asks: true, keeps: image.own.layers.every(({ digest }) => content.includes(digest)) }
  } finally {
    await removeHosts(certs, REGISTRY_NAME)
  }
}

/** Waits until a garbage collection is done. */
async function collectGarbage(): Promise<void> {
  await a.ctr('leases', 'create', '--id', 'collecting')
  await a.ctr('leases', 'delete', '--sync', 'collecting')
}

test('check: a correct configuration passes, the mirror starts, and the probes leave nothing behind', async () => {
  await node.configure(right)
  const before = await node.traces()
  const { code, report } = await node.check()
  assert.deepEqual([code, report.outcome, wrong(report)], [0, 'passed', []])
  await mirror.start()
  const held = logLines(mirror).filter(({ event }) => event === 'content held')
  assert.ok(held.length > 0 && held.every(({ keys }) => keys === 0), 'nothing of the probe was announced')
  assert.equal(await mirror.stop(), 0)
  assert.deepEqual(await node.traces(), before)
})

interface Case {
  readonly title: string
  readonly config: string
  readonly imported?: string
  readonly cri?: boolean
  /** What `check` finds, with the probe. */
  readonly finds: readonly string[]
}

const NOT_ASKED = ['error probe-mirror-asked', 'unknown probe-layers-kept']
const DISCARD = ['snapshotter =', 'discard_unpacked_layers = true\n  snapshotter ='] as const

const TLS: Case = {
  title: 'legacy configs with tls beside config_path',
  config: `${right}\n[${REGISTRY}.configs."a.b".tls]\n  insecure_skip_verify = true\n`,
  ...byMajor({
    1: {
      cri: false,
      finds: ['error legacy-registry-config', 'unknown probe-mirror-asked', 'unknown probe-layers-kept'],
    },
    2: { finds: ['warning legacy-registry-config'] },
  }),
}

const cases: readonly Case[] = [
  { title: 'config_path missing', config: WITHOUT, finds: ['error registry-config-path', ...NOT_ASKED] },
  {
    title: 'config_path on another directory',
    config: right.replace(CONFIG_PATH, `config_path = ${JSON.stringify(`${paths.certs}.other`)}`),
    finds: ['error registry-config-path', ...NOT_ASKED],
  },
  {
    title: 'discard_unpacked_layers',
    config: right.replace(...DISCARD),
    finds: ['error discard-unpacked-layers', 'error probe-layers-kept'],
  },
  {
    title: 'both settings wrong in one file',
    config: WITHOUT.replace(...DISCARD),
    finds: ['error registry-config-path', 'error discard-unpacked-layers', ...NOT_ASKED],
  },
  {
    title: 'an import that overrides discard_unpacked_layers',
    config: right.replace(VERSION, `${VERSION}\nimports = [${JSON.stringify(node.imported)}]`),
    imported: `${VERSION}\n[${REGISTRY}]\n  ${CONFIG_PATH}\n[${LAYERS}]\n\tsnapshotter = "native"\n\tdiscard_unpacked_layers = true\n`,
    finds: ['error discard-unpacked-layers', 'error probe-layers-kept'],
  },
  {
    title: 'legacy mirrors beside config_path',
    config: `${right}\n[${REGISTRY}.mirrors."docker.io"]\n  endpoint = ["http://127.0.0.1:5000"]\n`,
    cri: false,
    finds: ['error legacy-registry-config', 'unknown probe-mirror-asked', 'unknown probe-layers-kept'],
  },
  {
    title: 'legacy mirrors in place of config_path',
    config: `${WITHOUT}\n[${REGISTRY}.mirrors."docker.io"]\n  endpoint = ["http://127.0.0.1:9"]\n`,
    finds: ['error registry-config-path', 'error legacy-registry-config', ...NOT_ASKED],
  },
  ...byMajor<readonly Case[]>({
    1: [TLS],
    2: [
      {
        title: 'a list with the directory, which the transfer service takes for a single path,',
        config: LIST,
        finds: ['error registry-config-path', ...NOT_ASKED],
      },
      {
        title: 'discard_unpacked_layers with a list, which is split only as long as layers are discarded,',
        config: LIST.replace(...DISCARD),
        finds: ['error discard-unpacked-layers', 'error probe-layers-kept', 'warning registry-config-path'],
      },
      {
        title: 'discard_unpacked_layers in a version-2 file with containerd.runtimes',
        config: `${containerdConfig({ file: 2 })(paths, 'native').replace(...DISCARD)}\n[plugins."${OLD_PLUGIN}".containerd.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n`,
        finds: ['error discard-unpacked-layers', 'error probe-layers-kept'],
      },
    ],
  }),
]

for (const { title, config, imported, cri, finds } of cases) {
  test(`check: ${title} is found, keeps the mirror from starting, and is mended by what is printed`, async () => {
    await node.configure(config, { imported: imported ?? '', cri: cri ?? true })
    const before = await node.traces()
    const { code, report } = await node.check()
    assert.deepEqual([code, report.outcome], [EX_CONFIG, 'failed'])
    assert.deepEqual(wrong(report), finds)
    const start = await node.refused()
    assert.equal(start.code, EX_CONFIG)
    const errors = finds.filter((found) => found.startsWith('error'))
    assert.deepEqual(
      start.told.map((id) => `error ${id}`),
      errors,
    )
    assert.deepEqual(
      start.remedies.map(({ id }) => `error ${id}`),
      errors,
    )
    assert.deepEqual(await node.traces(), before)
    const asks = !finds.some((found) => found.endsWith('probe-mirror-asked'))
    const keeps = !finds.some((found) => found.endsWith('probe-layers-kept'))
    assert.deepEqual(await pulled(), { asks, keeps })
    await node.follow(start.remedies)
    // The directory that containerd already uses has no hosts.toml yet, so `check` prints what is left to do.
    await node.followAll()
    await node.startsReady()
    assert.deepEqual(await pulled(), { asks: true, keeps: true })
  })
}

/** What the mirror works with. */
interface Working extends Case {
  readonly says: RegExp
}

const OF_A_LIST = /^config_path is ".*:\/etc\/docker\/certs\.d"/

const working: readonly Working[] = [
  {
    title: 'a directory with a slash at its end',
    config: right.replace(CONFIG_PATH, `config_path = ${JSON.stringify(`${paths.certs}/`)}`),
    finds: [],
    says: /^config_path is ".*certs\.d\/"/,
  },
  {
    title: 'isolated content',
    config: `${right}\n[plugins."io.containerd.metadata.v1.bolt"]\n  content_sharing_policy = "isolated"\n`,
    finds: [],
    says: /^config_path is/,
  },
  ...byMajor<readonly Working[]>({
    1: [{ title: 'a list with the directory', config: LIST, finds: [], says: OF_A_LIST }],
    2: [
      {
        title: 'a local pull',
        config: right.replace('snapshotter =', 'use_local_image_pull = true\n  snapshotter ='),
        finds: [],
        says: /^config_path is/,
      },
      {
        title: 'a list with local pulls, which split it,',
        config: LIST.replace('snapshotter =', 'use_local_image_pull = true\n  snapshotter ='),
        finds: [],
        says: OF_A_LIST,
      },
      {
        title: 'a list that is split because the number of downloads differs',
        config: LIST.replace('snapshotter =', 'max_concurrent_downloads = 4\n  snapshotter ='),
        finds: ['warning registry-config-path'],
        says: OF_A_LIST,
      },
      {
        title: 'discard_unpacked_layers in a version-2 file without containerd.runtimes, which is dropped,',
        config: containerdConfig({ file: 2 })(paths, 'overlayfs').replace(...DISCARD),
        finds: [],
        says: /^discard_unpacked_layers is false/,
      },
      { ...TLS, says: /^registry\.configs with tls is set/ },
    ],
  }),
]

for (const { title, config, finds, says } of working) {
  test(`check: ${title} works and is mentioned`, async () => {
    await node.configure(config)
    const { code, report } = await node.check()
    assert.deepEqual([code, wrong(report)], [0, finds])
    assert.ok(report.findings.some(({ seen }) => says.test(seen)))
    assert.deepEqual(await pulled(), { asks: true, keeps: true })
    await node.startsReady()
  })
}

test('check: registry.mirrors that points to the mirror replaces hosts.toml', async () => {
  const mirrors = `[${REGISTRY}.mirrors."*"]\n  endpoint = ["http://127.0.0.1:5000"]\n`
  await node.configure(`${node.right.replace(CONFIG_PATH, '')}\n${mirrors}`)
  await a.removeHosts('_default')
  const alone = await node.check()
  assert.deepEqual([alone.code, wrong(alone.report)], [0, []])
  await mirror.start()
  const beside = await node.check()
  assert.deepEqual(
    [beside.code, wrong(beside.report)],
    [0, ['unknown probe-mirror-asked', 'unknown probe-layers-kept']],
  )
  assert.equal(await mirror.stop(), 0)
})

test('check: where no hosts.toml can be written, the probe uses the one in _default', async () => {
  await node.configure(node.right)
  const script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
  const below = ['unshare', '--mount', 'sh', '-c', script, 'sh', paths.certs] as const
  const readOnly = async () => {
    const { code, report } = await node.check(node.flags, { below })
    return { code, report, asked: report.findings.find(({ id }) => id === 'probe-mirror-asked') }
  }
  const before = await node.traces()
  const led = await readOnly()
  assert.deepEqual([led.code, wrong(led.report)], [0, []])
  assert.match(led.asked?.seen ?? '', /as the hosts.toml in _default says/)
  assert.deepEqual(await node.traces(), before)
  await a.writeHosts('_default', { hosts: [{ url: 'http://127.0.0.1:9' }] })
  const astray = await readOnly()
  assert.deepEqual([astray.code, astray.asked?.severity], [EX_CONFIG, 'unknown'])
  assert.match(astray.asked?.seen ?? '', /read-only file system.*names http:\/\/127.0.0.1:9 first/)
})

test('check: without CRI no probe is possible, the files decide, and the remedy brings CRI back', async () => {
  await node.configure(right.replace('disabled_plugins = [', `disabled_plugins = [\n  "${OLD_PLUGIN}",`), {
    cri: false,
  })
  const { code, report } = await node.check()
  assert.equal(code, 0)
  assert.deepEqual(wrong(report), ['warning cri-disabled', 'unknown probe-mirror-asked', 'unknown probe-layers-kept'])
  assert.match(report.findings.find(({ id }) => id === 'probe-mirror-asked')?.seen ?? '', /without its CRI plugin/)
  await node.startsReady()
  await node.follow(await node.printed('warning'))
  assert.deepEqual(wrong((await node.check()).report), [])
  await node.startsReady()
})

test('check: a broken file is a warning while containerd runs with the earlier one, and an error after that', async () => {
  await node.configure(right)
  await writeFile(paths.config, `${right}\nthis is no TOML\n`)
  const behaved = await node.check()
  assert.deepEqual([behaved.code, wrong(behaved.report)], [0, ['warning containerd-config-file']])
  assert.match(behaved.report.findings[0]?.seen ?? '', /line \d+.*but the probe shows that it works now/)
  const read = await node.check({ ...node.flags, probe: 'off' })
  assert.equal(read.code, EX_CONFIG)
  assert.ok(wrong(read.report).includes('error containerd-config-file'))

  await a.containerd.stop()
  a.containerd.spawn()
  await until('containerd to refuse the file', () => !a.containerd.running)
  const down = await node.check()
  assert.equal(down.code, EX_CONFIG)
  assert.deepEqual(wrong(down.report).slice(0, 2), ['error containerd-socket', 'error containerd-config-file'])
  const [socket, file] = await node.printed('error')
  assert.match(socket?.text ?? '', /^start containerd/)
  const [, path = '', line] = /^correct (\S+) line (\d+) until/.exec(file?.text ?? '') ?? []
  const lines = (await readFile(path, 'utf8')).split('\n')
  await writeFile(path, lines.toSpliced(Number(line) - 1, 1).join('\n'))
  await node.follow([socket, file].filter((remedy) => remedy !== undefined))
  await node.restart()
  await node.startsReady()
})

test('check: a file that containerd was not started with is recognized, and its content is not judged', async () => {
  await node.configure(WITHOUT)
  await writeFile(node.imported, right)
  node.set(`SWARMIRROR_CONTAINERD_CONFIG=${node.imported}`)
  const { code, report } = await node.check()
  assert.deepEqual([code, wrong(report)], [EX_CONFIG, ['error containerd-config-in-use', ...NOT_ASKED]])
  const start = await node.refused()
  assert.deepEqual([start.code, start.told[0]], [EX_CONFIG, 'containerd-config-in-use'])
  await node.follow(start.remedies)
  assert.equal(node.flags['containerd-config'], paths.config)
  await node.followAll()
  await node.startsReady()
})

test('check: a socket that this user may not use is an error, but not for root', async () => {
  await node.configure(right)
  const nobody = { uid: 65_534 }
  const { code, report } = await node.check(node.flags, nobody)
  assert.equal(code, EX_CONFIG)
  const found = report.findings.find(({ id }) => id === 'containerd-socket')
  assert.equal(found?.severity, 'error')
  assert.ok(wrong(report).includes('unknown probe-mirror-asked'))
  const serve = await node.run('serve', nobody)
  assert.equal(serve.code, EX_CONFIG)
  assert.match(serve.stderr, /\nerror {3}containerd-socket: .*may not use it.*\n(?: {2}.*\n)* {2}remedy: run as root/)
  await node.startsReady()
})

test('check: a namespace without images is reported when another one has them', async () => {
  await node.configure(right)
  const ctr = (namespace: string, given: readonly string[]) =>
    a.exec('ctr', ['--address', paths.socket, '--namespace', namespace, ...given])
  const name = 'registry.example/team/app:1'
  await importImage({ ctr }, 'other', makeImage(), name)
  const hinted = await node.check()
  assert.deepEqual([hinted.code, wrong(hinted.report)], [0, ['warning containerd-namespace']])
  node.set('SWARMIRROR_CONTAINERD_NAMESPACE=nowhere')
  const mistaken = await node.check()
  assert.deepEqual([mistaken.code, wrong(mistaken.report)], [EX_CONFIG, ['error containerd-namespace']])
  const start = await node.refused()
  assert.deepEqual([start.code, start.told], [EX_CONFIG, ['containerd-namespace']])
  await node.follow(start.remedies)
  assert.equal(node.flags['containerd-namespace'], 'other')
  assert.deepEqual(wrong((await node.check()).report), [])
  await node.startsReady()
  await ctr('other', ['images', 'rm', '--sync', name])
})
