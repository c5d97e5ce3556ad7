import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { lookup } from '../../lib/containerd/check/config/load.ts'
import { readConfig } from '../../lib/containerd/check/config/settings.ts'
import { dialectOf } from '../../lib/containerd/dialect.ts'
import { HOSTS_FILES } from '../../lib/containerd/hosts/files.ts'
import { applyEdits } from '../../lib/toml/patch.ts'
import { parseToml, tableOf } from '../../lib/toml/toml.ts'
import { checkConfig } from '../unit/containerd/check/checked-config.ts'
import { silentFacts } from '../unit/containerd/check/facts.ts'

const run = promisify(execFile)
const CRI = 'io.containerd.grpc.v1.cri'
const DIALECT = dialectOf('1.7.24')

/** What a generated file says; its name says where it is. */
interface Part {
  readonly version: 0 | 1 | 2
  readonly short: boolean
  readonly configPath: string | undefined
  readonly discard: boolean | undefined
  readonly imports: readonly string[]
}

const NAMES = ['config.toml', 'a.toml', 'conf.d/b.toml', 'conf.d/c.toml', 'conf.d/deep/d.toml']
const IMPORTS = ['a.toml', 'conf.d/*.toml', './conf.d/b.toml', 'conf.d/*/d.toml', '../*/a.toml', 'conf.d/[bc].t*', 'x*']

const part: fc.Arbitrary<Part> = fc.record({
  version: fc.constantFrom(0, 1, 2, 2, 2),
  short: fc.boolean(),
  configPath: fc.option(fc.constantFrom('/one', '/two', ''), { nil: undefined }),
  discard: fc.option(fc.boolean(), { nil: undefined }),
  imports: fc.subarray(IMPORTS, { maxLength: 3 }),
})

function textOf({ version, short, configPath, discard, imports }: Part): string {
  const id = JSON.stringify(short ? 'cri' : CRI)
  const lines = version === 0 ? [] : [`version = ${version}`]
  lines.push(`imports = ${JSON.stringify(imports)}`)
  if (configPath !== undefined) lines.push(`[plugins.${id}.registry]`, `config_path = ${JSON.stringify(configPath)}`)
  if (discard !== undefined) lines.push(`[plugins.${id}.containerd]`, `discard_unpacked_layers = ${discard}`)
  return `${lines.join('\n')}\n`
}

test('readConfig reads files as containerd itself does', { timeout: 120_000 }, async () => {
  const { stdout } = await run('containerd', ['--version'])
  assert.match(stdout, / v?1\.7\./, 'this compares with containerd 1.7')
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
        const { files, problems, merged, settings } = await readConfig({ ...HOSTS_FILES, path: main }, DIALECT)
        const dump = await dumped(main).catch((error: Error) => error)
        if (dump instanceof Error) {
          const refused = problems.length > 0 || merged.refusal !== undefined
          assert.ok(refused, `containerd refuses what is taken here: ${dump.message}`)
          return
        }
        assert.deepEqual(problems, [])
        assert.equal(merged.refusal, undefined)
        const [configPath, discard] = dump
        assert.equal(settings.configPath.value, configPath)
        assert.equal(settings.discardUnpackedLayers.value, discard)
        for (const { source } of [settings.configPath, settings.discardUnpackedLayers]) {
          if (source === undefined) continue
          const file = files.find(({ path }) => path === source.file)
          const line = file?.text.split('\n')[source.line - 1]
          assert.match(line ?? '', /^(config_path|discard_unpacked_layers) = /)
          assert.notEqual(lookup(file?.table, 'plugins'), undefined)
        }
      }),
      { numRuns: 60 },
    )
  } finally {
    await rm(root, { recursive: true, force: true })
  }
})

/** What containerd itself says of both settings with a file. */
async function dumped(main: string): Promise<readonly unknown[]> {
  const { stdout } = await run('containerd', ['--config', main, 'config', 'dump'])
  const cri = tableOf(tableOf(parseToml(stdout).get('plugins')?.value)?.get(CRI)?.value)
  return [
    tableOf(cri?.get('registry')?.value)?.get('config_path')?.value,
    tableOf(cri?.get('containerd')?.value)?.get('discard_unpacked_layers')?.value,
    tableOf(tableOf(cri?.get('registry')?.value)?.get('mirrors')?.value)?.size,
  ]
}

test('checkConfig prints changes that containerd itself takes as they are meant', async () => {
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
      `version = 2\nplugins."${CRI}".registry.config_path = ""\n`,
      `version = 2\n[plugins."${CRI}"]\n  containerd = { discard_unpacked_layers = true }\n`,
    ]
    const main = join(root, 'config.toml')
    const expectation = { certsDir: '/etc/containerd/certs.d', namespace: 'k8s.io', registryDoor: '127.0.0.1:5000' }
    const notMarked = { list: () => Promise.reject(new Error('nothing else is looked at')) }
    for (const text of texts) {
      await writeFile(main, text)
      const { findings } = await checkConfig(
        silentFacts('1.7.24'),
        { ...HOSTS_FILES, ...notMarked, path: main },
        expectation,
      )
      const edits = findings.flatMap(({ severity, remedy }) => (severity === 'error' ? (remedy?.edits ?? []) : []))
      await writeFile(main, applyEdits(text, edits))
      assert.deepEqual(await dumped(main), ['/etc/containerd/certs.d', false, 0], applyEdits(text, edits))
    }
  } finally {
    await rm(root, { recursive: true, force: true })
  }
})
