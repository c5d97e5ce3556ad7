import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { IMAGES_PLUGIN, OLD_PLUGIN } from '../../lib/containerd/check/config/merge.ts'
import { pathOf, readConfig } from '../../lib/containerd/check/config/settings.ts'
import { dialectOf } from '../../lib/containerd/dialect.ts'
import { HOSTS_FILES } from '../../lib/containerd/hosts/files.ts'
import { lookup, parseToml, tableAt } from '../../lib/toml/toml.ts'
import { followIn } from '../fixtures/toml-edits.ts'
import { checkConfig } from '../unit/containerd/check/checked-config.ts'
import { byMajor, CONTAINERD } from './harness/version.ts'

const run = promisify(execFile)
/** Reads by the rules of the containerd whose `config dump` the test compares with. */
const DIALECT = dialectOf(CONTAINERD.text)
/** Where `config dump` prints the settings, whatever ids the files use. */
const DUMPED = byMajor({ 1: OLD_PLUGIN, 2: IMAGES_PLUGIN })

/** The content of a generated file; its name tells its place. */
interface Part {
  readonly version: number
  readonly plugin: string
  readonly configPath: string | undefined
  readonly discard: boolean | undefined
  /** Whether there is a table `containerd.runtimes`. Without one, containerd 2 drops the keys beside it. */
  readonly runtimes: boolean
  readonly imports: readonly string[]
}

const NAMES = ['config.toml', 'a.toml', 'conf.d/b.toml', 'conf.d/c.toml', 'conf.d/deep/d.toml']
const IMPORTS = ['a.toml', 'conf.d/*.toml', './conf.d/b.toml', 'conf.d/*/d.toml', '../*/a.toml', 'conf.d/?.t*', 'x*']

const part: fc.Arbitrary<Part> = fc.record({
  version: fc.constantFrom(...byMajor({ 1: [0, 1, 2, 2, 2], 2: [0, 1, 2, 2, 2, 3, 3, 3] })),
  plugin: fc.constantFrom(...byMajor({ 1: ['cri', OLD_PLUGIN], 2: ['cri', OLD_PLUGIN, IMAGES_PLUGIN, IMAGES_PLUGIN] })),
  configPath: fc.option(fc.constantFrom('/one', '/two', ''), { nil: undefined }),
  discard: fc.option(fc.boolean(), { nil: undefined }),
  runtimes: fc.boolean(),
  imports: fc.subarray(IMPORTS, { maxLength: 3 }),
})

function textOf({ version, plugin, configPath, discard, runtimes, imports }: Part): string {
  const lines = version === 0 ? [] : [`version = ${version}`]
  lines.push(`imports = ${JSON.stringify(imports)}`)
  const set = (path: readonly string[], value: string | boolean) => {
    const tables = ['plugins', ...path.slice(0, -1)].map((name) => JSON.stringify(name))
    lines.push(`[${tables.join('.')}]`, `${path.at(-1)} = ${JSON.stringify(value)}`)
  }
  if (configPath !== undefined) set(pathOf(plugin, 'configPath'), configPath)
  if (discard !== undefined) set(pathOf(plugin, 'discardUnpackedLayers'), discard)
  if (runtimes && plugin !== IMAGES_PLUGIN) {
    set([plugin, 'containerd', 'runtimes', 'runc', 'runtime_type'], 'io.containerd.runc.v2')
  }
  return `${lines.join('\n')}\n`
}

test('readConfig reads files as containerd itself does', { timeout: 120_000 }, async () => {
  const root = await mkdtemp(join(tmpdir(), 'swarmirror-config-'))
  try {
    const parts = fc.tuple(part, part, part, part, part)
    await fc.assert(
      fc.asyncProperty(parts, async (contents) => {
        const dir = await mkdtemp(join(root, 'node-'))
        for (const [at, name] of NAMES.entries()) {
          await mkdir(dirname(join(dir, name)), { recursive: true })
          const content = contents[at]
          if (content !== undefined) await writeFile(join(dir, name), textOf(content))
        }
        const main = join(dir, 'config.toml')
        const { files, problems, settings } = await readConfig({ ...HOSTS_FILES, path: main }, DIALECT)
        // `config dump` of containerd 2 stops at a missing file and prints what it has read so far; see the next test.
        if (CONTAINERD.major === 2 && problems.some(({ kind }) => kind === 'missing')) return
        // containerd refuses some files, such as those with ids of another version. No running containerd was started with such a file.
        const dump = await dumped(main).catch(() => undefined)
        if (dump === undefined) return
        assert.deepEqual(problems, [])
        const [configPath, discard] = dump
        assert.equal(settings.configPath.value, configPath)
        assert.equal(settings.discardUnpackedLayers.value, discard)
        for (const { source } of [settings.configPath, settings.discardUnpackedLayers]) {
          if (source === undefined) continue
          const file = files.find(({ path }) => path === source.file)
          const line = file?.text.split('\n')[source.line - 1]
          assert.match(line ?? '', /^(config_path|discard_unpacked_layers) = /)
          assert.ok(file?.table.has('plugins'))
        }
      }),
      { numRuns: 60 },
    )
  } finally {
    await rm(root, { recursive: true, force: true })
  }
})

test('readConfig reports a missing import, which keeps containerd from starting', async () => {
  const root = await mkdtemp(join(tmpdir(), 'swarmirror-import-'))
  try {
    const main = join(root, 'config.toml')
    const missing = join(root, 'missing.toml')
    const own = `root = "${root}/root"\nstate = "${root}/state"\n[grpc]\naddress = "${root}/socket"\n`
    await writeFile(main, `version = 2\nimports = [${JSON.stringify(missing)}]\n${own}`)
    const { problems } = await readConfig({ ...HOSTS_FILES, path: main }, DIALECT)
    assert.deepEqual(
      problems.map(({ kind, file }) => [kind, file]),
      [['missing', missing]],
    )
    const started = run('containerd', ['--config', main], { timeout: 30_000 })
    await assert.rejects(started, { code: 1, stderr: /missing\.toml: no such file/ })
  } finally {
    await rm(root, { recursive: true, force: true })
  }
})

/** What containerd itself says about both settings, given a file. */
async function dumped(main: string): Promise<readonly unknown[]> {
  const { stdout } = await run('containerd', ['--config', main, 'config', 'dump'])
  const plugins = tableAt(parseToml(stdout), 'plugins')
  return [
    lookup(plugins, ...pathOf(DUMPED, 'configPath'))?.value,
    lookup(plugins, ...pathOf(DUMPED, 'discardUnpackedLayers'))?.value,
    // containerd 2 omits an empty table.
    tableAt(plugins, DUMPED, 'registry', 'mirrors').size,
  ]
}

test('checkConfig prints changes that containerd itself understands as intended', async () => {
  const root = await mkdtemp(join(tmpdir(), 'swarmirror-remedy-'))
  try {
    const fixtures = ['gke', 'minikube', 'debian', 'digitalocean'].map((node) =>
      readFile(
        new URL(`../unit/containerd/check/fixtures/${node}/etc/containerd/config.toml`, import.meta.url),
        'utf8',
      ),
    )
    const texts = [
      ...(await Promise.all(fixtures)),
      '',
      'version = 2\n',
      '[plugins.cri.registry.mirrors."x"]\nendpoint = ["http://x"]\n[plugins.cri.containerd]\ndiscard_unpacked_layers = true\n',
      `version = 2\nplugins."${OLD_PLUGIN}".registry.config_path = ""\n`,
      `version = 2\n[plugins."${OLD_PLUGIN}"]\n  containerd = { discard_unpacked_layers = true }\n`,
    ]
    const main = join(root, 'config.toml')
    const expectation = { certsDir: '/etc/containerd/certs.d', namespace: 'k8s.io', registryDoor: '127.0.0.1:5000' }
    const notMarked = { list: () => Promise.reject(new Error('nothing else is looked at')) }
    for (const text of texts) {
      await writeFile(main, text)
      const { findings } = await checkConfig(CONTAINERD.text, { ...HOSTS_FILES, ...notMarked, path: main }, expectation)
      const remedies = findings.flatMap(({ severity, remedy = [] }) => (severity === 'error' ? remedy : []))
      const followed = remedies.reduce(followIn, text)
      await writeFile(main, followed)
      assert.deepEqual(await dumped(main), ['/etc/containerd/certs.d', false, 0], followed)
    }
  } finally {
    await rm(root, { recursive: true, force: true })
  }
})
