import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, posix } from 'node:path'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import type { ConfigFiles } from '../../../../lib/containerd/check/config/load.ts'
import {
  DISTRIBUTIONS,
  type Expectation,
  recogniseDistribution,
} from '../../../../lib/containerd/check/distributions.ts'
import type { Finding, Remedy } from '../../../../lib/containerd/rule.ts'
import { SETTINGS } from '../../../../lib/settings/settings.ts'
import { parseToml } from '../../../../lib/toml/toml.ts'
import { page, partOf } from '../../../fixtures/readme.ts'
import { followIn } from '../../../fixtures/toml-edits.ts'
import { checkConfig } from './checked-config.ts'
import { fixtureFiles } from './fixture-files.ts'
import { textOf, withFile } from './memory-files.ts'

const PAGE = 'lib/containerd/check/README.md'
const README = page(PAGE)

/** A node whose files are in fixtures/, its containerd, and what `check` finds before any change. */
const NODES = [
  { node: 'kind', name: 'Kind', version: '1.7.18', errors: ['registry-config-path', 'discard-unpacked-layers'] },
  { node: 'kind-2', name: 'Kind', version: '2.2.1', errors: ['discard-unpacked-layers'] },
  { node: 'talos', name: 'Talos', version: '2.2.3', errors: ['discard-unpacked-layers'] },
  {
    node: 'eks-al2023',
    name: 'EKS, Amazon Linux 2023',
    version: '2.1.4',
    errors: ['registry-config-path', 'discard-unpacked-layers'],
  },
  { node: 'eks-al2023-1', name: 'EKS, Amazon Linux 2023', version: '1.7.27', errors: ['discard-unpacked-layers'] },
  { node: 'eks-bottlerocket', name: 'EKS, Bottlerocket', version: '1.7.27', errors: ['registry-config-path'] },
  { node: 'gke', name: 'GKE', version: '2.1.5', errors: ['registry-config-path', 'legacy-registry-config'] },
  { node: 'aks', name: 'AKS', version: '1.7.28', errors: [] },
  { node: 'k3s', name: 'K3s', version: '2.1.5-k3s1', errors: [] },
  { node: 'rke2', name: 'RKE2', version: '2.1.5-k3s1', errors: [] },
  { node: 'k0s', name: 'K0s', version: '1.7.30', errors: ['registry-config-path'] },
  { node: 'minikube', name: 'Minikube', version: '1.7.23', errors: ['discard-unpacked-layers'] },
  { node: 'digitalocean', name: 'DigitalOcean', version: '1.7.27', errors: ['registry-config-path'] },
  { node: 'debian', name: undefined, version: '1.7.24~ds1', errors: ['registry-config-path'] },
] as const

/** The settings of swarmirror on a node of a distribution. */
function pathsOf(name: string | undefined) {
  const { settings = {} } = DISTRIBUTIONS.find((distribution) => distribution.name === name) ?? {}
  return {
    configFile: settings['containerd-config'] ?? SETTINGS['containerd-config'].default,
    certsDir: settings['certs-dir'] ?? SETTINGS['certs-dir'].default,
  }
}

function expectationOf(name: string | undefined): Expectation {
  return { certsDir: pathsOf(name).certsDir, registryDoor: '127.0.0.1:5000' }
}

function errorsOf(findings: readonly Finding[]): string[] {
  return findings.filter(({ severity }) => severity === 'error').map(({ id }) => id)
}

describe('checkConfig', () => {
  for (const { node, name, version, errors } of NODES) {
    it(`recognises ${node} and says what it lacks`, async () => {
      const files = fixtureFiles(node, pathsOf(name).configFile)
      const { findings } = await checkConfig(version, files, expectationOf(name))
      assert.deepEqual(errorsOf(findings), errors, JSON.stringify(findings, undefined, 1))
      const seen = findings.find((finding) => finding.id === 'distribution')?.seen
      assert.equal(seen, name ?? 'no distribution with settings of its own')
      assert.deepEqual(
        findings.filter(({ severity }) => severity === 'unknown'),
        [],
      )
    })

    it(`finds ${node} right after its remedies are followed to the letter`, async () => {
      const paths = pathsOf(name)
      const expectation = expectationOf(name)
      let files = fixtureFiles(node, paths.configFile)
      const { findings: before } = await checkConfig(version, files, expectation)
      const errors = before.filter(({ severity }) => severity === 'error')
      for (const finding of errors) assert.notEqual(finding.remedy, undefined, finding.id)
      // One may do for two findings, and then the second says no more than that.
      const remedies = errors
        .map(({ remedy }) => remedy)
        .filter((remedy) => remedy?.lines ?? remedy?.text.includes('delete'))
      for (const text of new Set(remedies.map((remedy) => JSON.stringify(remedy)))) {
        files = await follow(JSON.parse(text) as Remedy, files, name)
      }
      const { findings: after } = await checkConfig(version, files, expectation)
      assert.deepEqual(errorsOf(after), [], JSON.stringify(after, undefined, 1))
      assert.equal(after.find((finding) => finding.id === 'registry-config-path')?.severity, 'ok')
      assert.equal(after.find((finding) => finding.id === 'discard-unpacked-layers')?.severity, 'ok')
    })
  }
})

describe('checkConfig', () => {
  it('names the paths of a distribution to somebody who starts with other paths', async () => {
    const { certsDir } = pathsOf(undefined)
    const expectation = { ...expectationOf(undefined), certsDir }
    const { findings } = await checkConfig('2.2.3', fixtureFiles('talos', pathsOf(undefined).configFile), expectation)
    assert.deepEqual(errorsOf(findings), ['distribution'])
    for (const { id, remedy } of findings) {
      if (id === 'distribution' || id === 'registry-config-path')
        assert.match(remedy?.text ?? '', /the paths of Talos$/)
    }
    const file = findings.find(({ id }) => id === 'containerd-config-file')
    assert.equal(file?.severity, 'unknown')
    assert.deepEqual(file?.remedy?.lines, [
      'SWARMIRROR_CONTAINERD_CONFIG=/etc/cri/containerd.toml',
      'SWARMIRROR_CERTS_DIR=/etc/cri/conf.d/hosts',
    ])
  })

  it('prints a drop-in for K3s that works beside what K3s generates', async () => {
    const plain = fixtureFiles('k3s', pathsOf('K3s').configFile)
    const text = await textOf(plain)
    const files = withFile(plain, plain.path, text.replace("images']", "images']\n  discard_unpacked_layers = true"))
    const { findings: before } = await checkConfig('2.1.5-k3s1', files, expectationOf('K3s'))
    assert.deepEqual(errorsOf(before), ['discard-unpacked-layers'])
    const remedy = before.find(({ severity }) => severity === 'error')?.remedy
    assert.ok(remedy !== undefined)
    const { findings: after } = await checkConfig(
      '2.1.5-k3s1',
      await follow(remedy, files, 'K3s'),
      expectationOf('K3s'),
    )
    assert.deepEqual(errorsOf(after), [])
  })
})

/** Changes a node's files as its distribution, or its administrator, would after a remedy. */
async function follow(remedy: Remedy, files: ConfigFiles, name: string | undefined): Promise<ConfigFiles> {
  const merge = MERGES[name ?? '']
  if (merge !== undefined) return merge(files, remedy.lines ?? [])
  const { file = files.path } = remedy
  return withFile(files, file, followIn(await textOf(files, file), remedy))
}

/** How a distribution writes its input into containerd's files. */
const MERGES: Readonly<Record<string, (files: ConfigFiles, lines: readonly string[]) => Promise<ConfigFiles>>> = {
  Kind: (files, lines) => merged(files, files.path, lines),
  Talos: (files, lines) => merged(files, '/etc/cri/conf.d/cri.toml', lines),
  'EKS, Amazon Linux 2023': (files, lines) => merged(files, files.path, lines),
  K0s: (files, lines) => merged(files, '/run/k0s/containerd-cri.toml', lines),
  K3s: async (files, lines) => {
    const path = '/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d/swarmirror.toml'
    return withFile(files, path, ['version = 3', ...lines].join('\n'))
  },
  'EKS, Bottlerocket': async (files, lines) => {
    assert.equal(lines[0], '[[settings.container-registry.mirrors]]')
    const table = `[plugins."io.containerd.grpc.v1.cri".registry.mirrors."*"]\n${lines[2]}\n`
    return withFile(files, files.path, `${await textOf(files)}${table}`)
  },
}

/** The lines of the YAML block text below its header, without their common indent. */
function block(lines: readonly string[], header: string): string[] {
  const at = lines.indexOf(header)
  assert.notEqual(at, -1, `no line ${JSON.stringify(header)} in\n${lines.join('\n')}`)
  const indent = /^ */.exec(lines[at + 1] ?? '')?.[0].length ?? 0
  return lines.slice(at + 1).map((line) => line.slice(indent))
}

/** Merges TOML key by key: new values replace old ones, and new tables are added. */
async function merged(files: ConfigFiles, path: string, lines: readonly string[]): Promise<ConfigFiles> {
  return withFile(files, path, followIn(await textOf(files, path), { text: '', lines }))
}

describe('recogniseDistribution', () => {
  it('recognises each by its own marks only', async () => {
    for (const { name, marks } of DISTRIBUTIONS) {
      for (const mark of marks.paths) {
        const files: ConfigFiles = {
          path: '/etc/containerd/config.toml',
          read: () => Promise.reject(new Error('not read')),
          list: async (directory) =>
            posix.dirname(mark) === directory ? [{ name: posix.basename(mark), directory: false }] : [],
        }
        assert.equal((await recogniseDistribution(files, files.path, undefined))?.name, name, mark)
      }
    }
  })

  it('takes a node without marks for a plain containerd', async () => {
    const files = { path: pathsOf(undefined).configFile, read: async () => Buffer.from(''), list: async () => [] }
    assert.equal(await recogniseDistribution(files, files.path, 'version = 2'), undefined)
  })
})

describe('the README', () => {
  it('has a table of compatibility with every distribution and its flags', () => {
    const rows = partOf(PAGE, 'compatibility')
      .split('\n')
      .map((line) => line.slice(2, -2).split(' | '))
    const names = rows.slice(2).map(([name]) => name)
    // This one has no marks.
    assert.deepEqual(names, [...DISTRIBUTIONS.map(({ name }) => name), 'VKE (Vultr)'])
    for (const distribution of DISTRIBUTIONS) {
      const row = rows.find(([name]) => name === distribution.name) ?? assert.fail()
      assert.equal(row.length, 6, row.join())
      const flags = Object.entries(distribution.settings ?? {}).map(([name, path]) => `\`--${name} ${path}\``)
      assert.equal(row[4], flags.join(' ') || 'none')
      const node = NODES.find(({ name }) => name === distribution.name)
      if (row[1] === 'green') assert.deepEqual(node?.errors, [], 'it works without changes')
      else assert.match(row[1] ?? '', /^(yellow|red)$/)
    }
  })

  for (const [name, node, version, header] of [
    ['Kind', 'kind-2', '2.2.1', '  - |-'],
    ['Talos', 'talos', '2.2.3', '      content: |'],
  ] as const) {
    it(`has what ${name} needs, which makes it right`, async () => {
      const yaml = [...README.matchAll(/\n```yaml\n([\s\S]*?)\n```/g)].map(([, text = '']) => text.split('\n'))
      const lines = yaml.find((lines) => lines.includes(header)) ?? assert.fail(name)
      const files = await MERGES[name]?.(fixtureFiles(node, pathsOf(name).configFile), block(lines, header))
      assert.ok(files !== undefined)
      assert.deepEqual(errorsOf((await checkConfig(version, files, expectationOf(name))).findings), [])
    })
  }

  it('has lines for Kind that keep content apart by namespace', async () => {
    const [, more = ''] = /add to the same patch:\n\n```yaml\n([\s\S]*?)\n```/.exec(README) ?? []
    const [, patch = ''] = /\n```yaml\n(kind: Cluster[\s\S]*?)\n```/.exec(README) ?? []
    const lines = [...patch.split('\n'), ...more.split('\n')]
    const node = fixtureFiles('kind-2', pathsOf('Kind').configFile)
    const files = await merged(node, node.path, block(lines, '  - |-'))
    const { findings } = await checkConfig('2.2.1', files, expectationOf('Kind'))
    assert.deepEqual(errorsOf(findings), [])
    assert.match(String(await files.read(node.path)), /content_sharing_policy = "isolated"/)
  })

  for (const version of ['2.1.5', '1.7.29']) {
    it(`has a script for GKE that corrects containerd ${version}, once`, async () => {
      const script = /<!-- gke -->\n```sh\n([\s\S]*?)```/.exec(README)?.[1]
      assert.ok(script !== undefined)
      const dir = await mkdtemp(join(tmpdir(), 'swarmirror-gke-'))
      try {
        const node = fixtureFiles('gke', pathsOf(undefined).configFile)
        await writeFile(join(dir, 'config.toml'), await textOf(node))
        await writeFile(join(dir, 'systemctl'), '#!/bin/sh\necho "$@" >> "$(dirname "$0")/restarts"\n', { mode: 0o755 })
        const local = script.replaceAll('/etc/containerd', dir)
        for (const _ of [1, 2]) {
          await promisify(execFile)('sh', ['-euc', local], { env: { PATH: `${dir}:/usr/bin:/bin` } })
        }
        assert.equal(await readFile(join(dir, 'restarts'), 'utf8'), 'restart containerd\n')
        const files = withFile(node, node.path, await readFile(join(dir, 'config.toml'), 'utf8'))
        const expectation = { ...expectationOf('GKE'), certsDir: join(dir, 'certs.d') }
        assert.deepEqual(errorsOf((await checkConfig(version, files, expectation)).findings), [])
        const hosts = parseToml(await readFile(join(dir, 'certs.d/docker.io/hosts.toml'), 'utf8'))
        assert.deepEqual([...hosts.keys()], ['server', 'host'])
        const before = await readFile(join(dir, 'config.toml.before-swarmirror'), 'utf8')
        assert.equal(before, await textOf(node))
      } finally {
        await rm(dir, { recursive: true, force: true })
      }
    })
  }
})
