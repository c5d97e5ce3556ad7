import assert from 'node:assert/strict'
import { watch } from 'node:fs'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { applyEdits } from '../../lib/check/config/patch.ts'
import type { Finding, Remedy } from '../../lib/check/finding.ts'
import type { Report } from '../../lib/check/report.ts'
import { importImage } from '../fixtures/containerd.ts'
import { makeImage } from '../fixtures/image.ts'
import {
  defaultContainerdConfig,
  defaultRuntime,
  logLines,
  type MirrorFlags,
  testCluster,
  until,
} from './harness/index.ts'
import { createMirror, defaultFlags } from './harness/mirror.ts'

const cluster = await testCluster({ nodes: [{ name: 'a', start: [] }] })
const a = cluster.node('a')
const { paths } = a
const MAIN = join(import.meta.dirname, '..', '..', 'main.ts')
const NODE = join(import.meta.dirname, '..', '..', 'node_modules', '.bin', 'node')
const EX_CONFIG = 78

const RIGHT = defaultContainerdConfig(paths, 'native')
const CONFIG_PATH = `config_path = ${JSON.stringify(paths.certs)}`
const IMPORTED = join(dirname(paths.config), 'imported.toml')

const usual: MirrorFlags = {
  ...defaultFlags(a.network, cluster.swarmKey),
  store: 'containerd',
  'containerd-socket': paths.socket,
  'containerd-config': paths.config,
  'certs-dir': paths.certs,
}
let flags = usual
const mirror = createMirror(a.network, {
  node: a.name,
  logDirectory: await a.makeDirectory('logs'),
  runtime: defaultRuntime(),
  flags: () => flags,
})

const args = (given: MirrorFlags) =>
  Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, value]))

/** Runs a command of the mirror on the node; as another user if one is given. */
async function main(command: string, given: readonly string[], uid?: number) {
  const drop = uid === undefined ? [] : ['--reuid', String(uid), '--regid', String(uid), '--clear-groups']
  return await a.tryExec('setpriv', [...drop, NODE, MAIN, command, ...given])
}

async function check(given: MirrorFlags = flags, uid?: number): Promise<{ code: unknown; report: Report }> {
  const { code, stdout, stderr } = await main('check', ['--json', ...args({ ...given, 'log-level': 'warn' })], uid)
  assert.equal(stderr, '')
  return { code, report: JSON.parse(stdout) }
}

/** What is not right, as `severity id`. The clock has nobody to be compared with on a node that is alone. */
function wrong({ findings }: Report): string[] {
  return findings
    .filter(({ severity, id }) => severity !== 'ok' && id !== 'clock')
    .map(({ severity, id }) => `${severity} ${id}`)
}

/** Starts containerd with these files; without CRI it has only to answer. */
async function configure(text: string, { imported = '', cri = true } = {}): Promise<void> {
  if (a.containerd.running) await a.containerd.stop()
  await writeFile(paths.config, text)
  await writeFile(IMPORTED, imported)
  flags = usual
  await a.writeHosts('_default', { hosts: [{ url: 'http://127.0.0.1:5000' }] })
  if (cri) return await a.containerd.start()
  a.containerd.spawn()
  await until('containerd to answer', () => a.ctr('version').then(() => true))
}

/** Everything that a probe could leave. */
async function traces() {
  return {
    images: await a.ctr('images', 'ls', '--quiet'),
    content: await a.ctr('content', 'ls', '--quiet'),
    leases: await a.ctr('leases', 'ls', '--quiet'),
    snapshots: await a.ctr('snapshots', '--snapshotter', 'native', 'ls'),
    certs: (await readdir(paths.certs)).sort(),
  }
}

/** Starts the mirror, which must end by itself; gives its exit code and what it logged of the findings. */
async function refused(): Promise<{ code: unknown; told: string[] }> {
  mirror.spawn()
  await until('the mirror to end', () => !mirror.running)
  const told = logLines(mirror).filter(({ event, severity }) => event === 'finding' && severity === 'error')
  assert.ok(!logLines(mirror).some(({ event }) => event === 'ready'), 'it was never ready')
  return { code: await mirror.exited, told: told.map(({ id }) => String(id)) }
}

/** Does what the remedies of a report say, to the letter: edits, settings, commands. */
async function follow(findings: readonly Finding[]): Promise<void> {
  const remedies = new Map<string, Remedy>()
  for (const { severity, remedy } of findings) {
    if (severity === 'error' && remedy !== undefined) remedies.set(JSON.stringify({ ...remedy, text: '' }), remedy)
  }
  const commands = new Set<string>()
  for (const { file, edits, lines = [], command } of remedies.values()) {
    if (file !== undefined && edits !== undefined)
      await writeFile(file, applyEdits(await readFile(file, 'utf8'), edits))
    for (const line of lines) {
      const [, name, value] = /^SWARMIRROR_([A-Z_]+)=(.*)$/.exec(line) ?? []
      if (edits !== undefined) continue
      assert.ok(name !== undefined, `a line that belongs nowhere: ${line}`)
      flags = { ...flags, [name.toLowerCase().replaceAll('_', '-')]: value }
    }
    if (command !== undefined) commands.add(command)
  }
  // Files first, then what makes them count.
  for (const command of [...commands].sort().reverse()) {
    const [program, name, ...given] = command.split(' ')
    if (command === 'systemctl restart containerd') {
      await a.containerd.stop()
      await a.containerd.start()
    } else {
      assert.deepEqual([program, name], ['swarmirror', 'hosts'], command)
      const { code, stderr } = await main('hosts', given)
      assert.equal(code, 0, stderr)
    }
  }
}

/** Follows remedies until there is nothing to follow: one may uncover another. */
async function followAll(): Promise<Report> {
  for (let round = 1; round <= 3; round++) {
    const { code, report } = await check()
    if (code === 0) return report
    await follow(report.findings)
  }
  const { code, report } = await check()
  assert.equal(code, 0, JSON.stringify(report, undefined, 2))
  return report
}

async function startsReady(): Promise<void> {
  await mirror.start()
  assert.match((await a.admin('/metrics')).body.toString(), /swarmirror_check_findings\{severity="error"\} 0/)
  assert.equal(await mirror.stop(), 0)
}

test('check: a right configuration passes, the mirror starts, and nothing is left of the probes', async () => {
  await configure(RIGHT)
  const before = await traces()
  const { code, report } = await check()
  assert.deepEqual([code, report.outcome, wrong(report)], [0, 'passed', []])
  await startsReady()
  assert.deepEqual(await traces(), before)
})

interface Case {
  readonly title: string
  readonly config: string
  readonly imported?: string
  readonly cri?: boolean
  /** What `check` finds, with the probe. */
  readonly finds: readonly string[]
}

const cases: readonly Case[] = [
  {
    title: 'config_path missing',
    config: RIGHT.replace(CONFIG_PATH, ''),
    finds: ['error registry-config-path', 'error probe-mirror-asked', 'unknown probe-layers-kept'],
  },
  {
    title: 'config_path on another directory',
    config: RIGHT.replace(CONFIG_PATH, `config_path = ${JSON.stringify(`${paths.certs}.other`)}`),
    finds: ['error registry-config-path', 'error probe-mirror-asked', 'unknown probe-layers-kept'],
  },
  {
    title: 'discard_unpacked_layers',
    config: RIGHT.replace('snapshotter =', 'discard_unpacked_layers = true\n  snapshotter ='),
    finds: ['error discard-unpacked-layers', 'error probe-layers-kept'],
  },
  {
    title: 'an import that overrides config_path',
    config: RIGHT.replace('version = 2', `version = 2\nimports = [${JSON.stringify(IMPORTED)}]`),
    imported: 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = ""\n',
    finds: ['error registry-config-path', 'error probe-mirror-asked', 'unknown probe-layers-kept'],
  },
  {
    title: 'legacy mirrors beside config_path',
    config: `${RIGHT}\n[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]\n  endpoint = ["http://127.0.0.1:5000"]\n`,
    cri: false,
    finds: ['error legacy-registry-config', 'unknown probe-mirror-asked', 'unknown probe-layers-kept'],
  },
  {
    title: 'legacy mirrors in place of config_path',
    config: `${RIGHT.replace(CONFIG_PATH, '')}\n[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]\n  endpoint = ["http://127.0.0.1:9"]\n`,
    finds: [
      'error registry-config-path',
      'error legacy-registry-config',
      'error probe-mirror-asked',
      'unknown probe-layers-kept',
    ],
  },
]

for (const { title, config, imported, cri, finds } of cases) {
  test(`check: ${title} is found, keeps the mirror from starting, and goes away by its remedy`, async () => {
    await configure(config, { imported: imported ?? '', cri: cri ?? true })
    const before = await traces()
    const { code, report } = await check()
    assert.deepEqual([code, report.outcome], [EX_CONFIG, 'failed'])
    assert.deepEqual(wrong(report), finds)
    const start = await refused()
    assert.equal(start.code, EX_CONFIG)
    assert.deepEqual(
      start.told.map((id) => `error ${id}`),
      finds.filter((found) => found.startsWith('error')),
    )
    assert.deepEqual(await traces(), before)
    await followAll()
    await startsReady()
  })
}

test('check: a list that has the directory, and isolated content, are right', async () => {
  await configure(
    `${RIGHT.replace(CONFIG_PATH, `config_path = ${JSON.stringify(`${paths.certs}:/etc/docker/certs.d`)}`)}
[plugins."io.containerd.metadata.v1.bolt"]
  content_sharing_policy = "isolated"
`,
  )
  const { code, report } = await check()
  assert.deepEqual([code, wrong(report)], [0, []])
  assert.match(report.findings.find(({ id }) => id === 'content-sharing-policy')?.seen ?? '', /isolated/)
  await startsReady()
})

test('check: without CRI nothing can be probed, and what was read counts', async () => {
  await configure(RIGHT.replace('disabled_plugins = [', 'disabled_plugins = [\n  "io.containerd.grpc.v1.cri",'), {
    cri: false,
  })
  const { code, report } = await check()
  assert.equal(code, 0)
  assert.deepEqual(wrong(report), ['warning cri-disabled', 'unknown probe-mirror-asked', 'unknown probe-layers-kept'])
  await startsReady()
})

test('check: a broken file is an error, or a warning while the containerd that read it before works', async () => {
  await configure(RIGHT)
  await writeFile(paths.config, `${RIGHT}\nthis is no TOML\n`)
  const behaved = await check()
  assert.deepEqual([behaved.code, wrong(behaved.report)], [0, ['warning containerd-config-file']])
  assert.match(behaved.report.findings[0]?.seen ?? '', /line \d+.*but the probe shows that it works now/)
  const read = await check({ ...flags, probe: 'off' })
  assert.equal(read.code, EX_CONFIG)
  assert.ok(wrong(read.report).includes('error containerd-config-file'))
  // The remedy: correct that line.
  await writeFile(paths.config, RIGHT)
  assert.equal((await check()).code, 0)
})

test('check: a socket that this user may not use is an error, which root does not have', async () => {
  await configure(RIGHT)
  const { code, report } = await check(flags, 65_534)
  assert.equal(code, EX_CONFIG)
  const found = report.findings.find(({ id }) => id === 'containerd-socket')
  assert.equal(found?.severity, 'error')
  assert.match(found?.remedy?.text ?? '', /run as root/)
  assert.ok(wrong(report).includes('unknown probe-mirror-asked'))
  assert.equal((await check()).code, 0)
})

test('check: a namespace without images beside one that has them is told of', async () => {
  await configure(RIGHT)
  const ctr = (namespace: string, given: readonly string[]) =>
    a.exec('ctr', ['--address', paths.socket, '--namespace', namespace, ...given])
  const name = 'registry.example/team/app:1'
  await importImage({ ctr }, 'other', makeImage(), name)
  const hinted = await check()
  assert.deepEqual([hinted.code, wrong(hinted.report)], [0, ['warning containerd-namespace']])
  const mistaken = await check({ ...flags, 'containerd-namespace': 'nowhere' })
  assert.deepEqual([mistaken.code, wrong(mistaken.report)], [EX_CONFIG, ['error containerd-namespace']])
  const command = mistaken.report.findings[0]?.remedy?.command ?? ''
  const [, namespace] = /--containerd-namespace (\S+)$/.exec(command) ?? []
  assert.equal(namespace, 'other')
  flags = { ...flags, 'containerd-namespace': namespace }
  assert.deepEqual(wrong((await check()).report), [])
  await startsReady()
  await ctr('other', ['images', 'rm', '--sync', name])
})

test('check: what a killed probe has left is gone with the next start', async () => {
  await configure(RIGHT)
  const before = await traces()
  const watcher = watch(paths.certs)
  const seen = new Promise<void>((resolve) => {
    watcher.on('change', (_, name) => {
      if (String(name).startsWith('probe-')) resolve()
    })
  })
  mirror.spawn()
  await seen
  await mirror.kill()
  watcher.close()
  const left = (await readdir(paths.certs)).filter((name) => name.startsWith('probe-'))
  assert.equal(left.length, 1, 'it was killed in the middle')
  await mirror.start()
  assert.deepEqual(await traces(), before)
  assert.ok(
    logLines(mirror).some(({ event, registry }) => String(event).includes('killed probe') && registry === left[0]),
  )
  assert.equal(await mirror.stop(), 0)
  assert.deepEqual(await traces(), before)
})

test('check: a mirror that is there before a wrong containerd ends when that comes', async () => {
  await configure(RIGHT.replace(CONFIG_PATH, ''))
  await a.containerd.stop()
  mirror.spawn()
  await until('the mirror to say that it is not ready', async () => {
    const { status, body } = await a.admin('/readyz')
    return status === 503 && body.toString().includes('not checked yet')
  })
  await a.containerd.start()
  await until('the mirror to end', () => !mirror.running)
  assert.equal(await mirror.exited, EX_CONFIG)
  assert.match(mirror.output('stderr'), /error {3}registry-config-path: config_path is not set/)
})

test('check: a running mirror is not ready while the configuration is wrong, and goes on', async () => {
  await configure(RIGHT)
  await mirror.start()
  const { pid } = mirror
  await a.removeHosts('_default')
  await until('the mirror to say what is wrong', async () => {
    const { status, body } = await a.admin('/readyz')
    return status === 503 && body.toString().includes('check hosts-toml-missing: ')
  })
  assert.match((await a.admin('/metrics')).body.toString(), /swarmirror_check_findings\{severity="error"\} 1/)
  assert.equal((await a.curl('/v2/')).status, 200)
  // A node's mirror may run while somebody checks: that finds its doors, and does not disturb its own probes.
  assert.deepEqual(wrong((await check()).report), ['error hosts-toml-missing'])
  await follow((await check()).report.findings)
  await until('the mirror to be ready again', () => a.isReady())
  // The same files, and another containerd that has read others.
  await a.containerd.stop()
  await writeFile(paths.config, RIGHT.replace(CONFIG_PATH, ''))
  await a.containerd.start()
  await until('the mirror to see it', async () =>
    (await a.admin('/readyz')).body.toString().includes('probe-mirror-asked'),
  )
  assert.equal(mirror.pid, pid)
  await followAll()
  await until('the mirror to be ready at last', () => a.isReady())
  assert.equal(await mirror.stop(), 0)
})
