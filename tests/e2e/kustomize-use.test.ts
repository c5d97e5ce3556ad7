/** What people do with k8s/ beyond applying it as it is. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import type * as core from 'kubernetes-models/v1'
import { parse } from 'yaml'
import { SETTINGS } from '../../lib/settings/settings.ts'
import { blockOf } from '../fixtures/readme.ts'
import {
  environmentOf,
  FOLDERS,
  K8S,
  KEY,
  type Manifests,
  NODE,
  own,
  ROOT,
  renderManifests,
  settingsOf,
} from './harness/manifests.ts'

const execute = promisify(execFile)
const README = await readFile(join(ROOT, 'k8s/README.md'), 'utf8')

describe('manifests', () => {
  let manifests: Manifests
  before(async () => {
    manifests = await renderManifests()
  })
  after(() => manifests.remove())
  const of = (name: string) => manifests.of(name)

  for (const name of FOLDERS.filter((name) => name.startsWith('uninstall/'))) {
    test(`manifests: ${name} takes back where its overlay writes, and runs no mirror`, () => {
      const overlay = name === 'uninstall/plain' ? 'base' : name.replace('uninstall/', 'overlays/')
      const [writes] = of(overlay).pod.initContainers ?? []
      const [removes] = of(name).pod.initContainers ?? []
      assert.deepEqual(removes?.args, ['hosts', '--remove'])
      assert.deepEqual(writes?.args, ['hosts'])
      const { env: [...variables] = [] } = removes ?? {}
      assert.deepEqual(variables.pop(), { name: 'SWARMIRROR_REGISTRIES', value: '' })
      assert.deepEqual({ ...removes, args: [], env: variables }, { ...writes, args: [] })
      assert.deepEqual(
        of(name).pod.containers.map(({ name }) => name),
        ['idle'],
      )
      assert.deepEqual(of(name).pod.volumes, of(overlay).pod.volumes)
    })
  }

  test('manifests: an uninstallation takes back what was written for registries that are not in the list any more', async () => {
    const own = join(manifests.dir, 'k8s', 'overlays', 'listed')
    await mkdir(own)
    const listed = blockOf('k8s/README.md', 'own overlay').replace(
      /^ +- SWARMIRROR_EXCLUDE=.*$/m,
      '      - SWARMIRROR_REGISTRIES=ghcr.io',
    )
    await writeFile(join(own, 'kustomization.yaml'), listed)
    const away = join(manifests.dir, 'k8s', 'uninstall', 'listed')
    await mkdir(away)
    await writeFile(
      join(away, 'kustomization.yaml'),
      blockOf('k8s/README.md', 'own uninstallation').replace('own', 'listed'),
    )
    const registries = async (name: string) => {
      const { pod, resources } = await manifests.render(name)
      const [hosts] = pod.initContainers ?? []
      assert.ok(hosts)
      return settingsOf(environmentOf(hosts, resources)).registries
    }
    assert.deepEqual([...((await registries('overlays/listed')) ?? [])], ['ghcr.io'])
    assert.equal(await registries('uninstall/listed'), undefined)
  })

  test('manifests: the swarm key is never committed, and asked for where it is missing', async () => {
    // Where the README has it made.
    for (const [, file = ''] of README.matchAll(/ key > ([\w./-]+)/g))
      await execute('git', ['check-ignore', '--quiet', '--no-index', file], { cwd: ROOT })
    const without = join(manifests.dir, 'without')
    await cp(K8S, without, { recursive: true })
    await rm(join(without, 'base', 'swarm.key'), { force: true })
    await assert.rejects(execute('kubectl', ['kustomize', join(without, 'base')]), /swarm\.key/)
    const [secret] = of('base').resources.filter(({ kind }) => kind === 'Secret') as core.ISecret[]
    assert.equal(Buffer.from(secret?.data?.['swarm.key'] ?? '', 'base64').toString(), KEY)
  })

  test("manifests: the README's overlay of one's own does what it says", async () => {
    const own = join(manifests.dir, 'k8s', 'overlays', 'own')
    await mkdir(own)
    await writeFile(join(own, 'kustomization.yaml'), blockOf('k8s/README.md', 'own overlay'))
    const { pod, resources } = await manifests.render('overlays/own')
    const [mirror] = pod.containers
    assert.ok(mirror)
    const settings = settingsOf(environmentOf(mirror, resources))
    assert.equal(settings['peer-transfer'], 'tls')
    assert.equal(settings.exclude?.[0]?.test('registry.example/secret/app:1'), true)
    assert.equal(settings['certs-dir'], '/etc/cri/conf.d/hosts')
    assert.deepEqual(settings['admin-listen'], { host: NODE, port: 5002 })
    assert.ok(resources.some(({ kind }) => kind === 'ServiceMonitor'))
  })

  test("manifests: kind takes the cluster's configuration", async () => {
    // Without a container engine in its path, kind reads the configuration strictly and gets no further.
    const create = async (file: string) => {
      const env = { PATH: manifests.dir, HOME: manifests.dir, KIND_EXPERIMENTAL_PROVIDER: 'docker' }
      const args = ['create', 'cluster', '--kubeconfig', join(manifests.dir, 'kubeconfig'), '--config', file]
      return await execute('/usr/bin/kind', args, { env }).catch((error: { stderr: string }) => error)
    }
    const file = join(K8S, 'overlays', 'kind', 'cluster.yaml')
    assert.match((await create(file)).stderr, /"docker": executable file not found/)
    const wrong = join(manifests.dir, 'wrong.yaml')
    await writeFile(wrong, (await readFile(file, 'utf8')).replace('role: worker', 'rolle: worker'))
    assert.match((await create(wrong)).stderr, /unable to decode config/, 'a misspelt field must be seen')
  })

  test("manifests: what is given beside overlays points containerd to the overlay's directory", async () => {
    const certs = (name: string) => {
      const { pod, resources } = of(name)
      const [container] = own(pod)
      assert.ok(container)
      return settingsOf(environmentOf(container, resources))['certs-dir']
    }
    const text = (path: string) => readFile(join(K8S, 'overlays', path), 'utf8')
    const paths = (toml: string) => [...toml.matchAll(/^\s*config_path = "(.*)"$/gm)].map(([, path]) => path)
    const kind = parse(await text('kind/cluster.yaml')) as { nodes: unknown[]; containerdConfigPatches: string[] }
    assert.equal(kind.nodes.length, 3)
    const patches = kind.containerdConfigPatches.join('\n')
    assert.deepEqual(paths(patches), [certs('overlays/kind'), certs('overlays/kind')])
    assert.equal(patches.match(/discard_unpacked_layers = false/g)?.length, 2)
    assert.deepEqual(paths(await text('k0s/containerd.toml')), [certs('overlays/k0s')])
    const talos = parse(await text('talos/machine-config.yaml')) as { machine: { files: { content: string }[] } }
    assert.match(talos.machine.files[0]?.content ?? '', /discard_unpacked_layers = false/)
    const gke = parse(await text('gke/node-config.yaml')) as { registryHosts: { hosts: { host: string }[] }[] }
    const listen = `http://${SETTINGS.listen.default}`
    assert.ok(gke.registryHosts.every(({ hosts }) => hosts[0]?.host === listen))
    assert.match(await text('eks-bottlerocket/user-data.toml'), new RegExp(`endpoint = \\["${listen}"\\]`))
  })
})
