/** Helm with the chart at an API server: the swarm key stays the same, and uninstalling waits for the nodes. */
import assert from 'node:assert/strict'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import type * as apps from 'kubernetes-models/apps/v1'
import type * as core from 'kubernetes-models/v1'
import { splitKeys } from '../../lib/settings/values.ts'
import { type Kubernetes, type KubernetesObject, startKubernetes } from '../doubles/kubernetes.ts'
import { page } from '../fixtures/readme.ts'
import { CHART, tryHelm } from './harness/chart.ts'
import { until } from './harness/wait.ts'

const COMPLETE = { conditions: [{ type: 'Complete', status: 'True' }] }

describe('chart', () => {
  let kubernetes: Kubernetes
  beforeEach(async () => {
    kubernetes = await startKubernetes()
    for (const name of ['kube-system', 'swarmirror'])
      kubernetes.put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  })
  afterEach(() => kubernetes.close())

  const tried = (...args: string[]) =>
    tryHelm([...args, '--namespace', 'swarmirror', '--kube-apiserver', kubernetes.url])
  async function helm(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await tried(...args)
    assert.equal(code, 0, stderr)
    return stdout
  }
  const get = (kind: string, name = 'swarmirror') =>
    kubernetes.get(kind, name) ?? assert.fail(`there is no ${kind} ${name}`)
  const secretKey = () => Buffer.from((get('Secret') as core.ISecret).data?.['swarm.key'] ?? '', 'base64').toString()
  const keyMark = () => {
    const { spec } = get('DaemonSet') as unknown as apps.IDaemonSet
    return spec?.template.metadata?.annotations?.['swarmirror/key'] ?? assert.fail('the pods do not follow the key')
  }
  const ownNames = () => kubernetes.names.filter((name) => !/^Namespace |^Secret sh\.helm\./.test(name)).sort()

  test('chart: the swarm key is made once, and survives upgrades and changes by hand', async () => {
    await helm('install', 'swarmirror', CHART)
    const [made, mark] = [secretKey(), keyMark()]
    assert.equal(splitKeys(made).length, 1)
    assert.match(made, /^[\w-]{43}$/)
    await helm('upgrade', 'swarmirror', CHART, '--set', 'settings.verify=false')
    assert.deepEqual([secretKey(), keyMark()], [made, mark])

    const two = `${made},${'b'.repeat(43)}`
    kubernetes.put({ ...get('Secret'), data: { 'swarm.key': Buffer.from(two).toString('base64') } })
    await helm('upgrade', 'swarmirror', CHART)
    assert.equal(secretKey(), two)
    assert.notEqual(keyMark(), mark, 'the change does not roll out to the nodes')

    kubernetes.put({ ...get('Secret'), data: {} })
    const { code, stderr } = await tried('upgrade', 'swarmirror', CHART)
    assert.notEqual(code, 0, 'another key would split the swarm')
    assert.match(stderr, /the Secret swarmirror has no entry swarm\.key/)
  })

  test('chart: a rollback brings an old key back, which the documentation says, and an upgrade does not', async () => {
    await helm('install', 'swarmirror', CHART)
    const made = secretKey()
    const changed = 'c'.repeat(43)
    kubernetes.put({ ...get('Secret'), data: { 'swarm.key': Buffer.from(changed).toString('base64') } })
    await helm('upgrade', 'swarmirror', CHART, '--set', 'image.tag=0.1.1')
    await helm('upgrade', 'swarmirror', CHART, '--set', 'image.tag=0.1.0')
    assert.equal(secretKey(), changed)
    await helm('rollback', 'swarmirror', '1')
    assert.equal(secretKey(), made)
    assert.match(page('k8s/README.md'), /`helm rollback` brings back the generated key/)
  })

  test('chart: an upgrade as documented keeps your values, and takes all others from the new chart', async () => {
    const older = await mkdtemp(join(tmpdir(), 'swarmirror-older-'))
    try {
      await cp(CHART, older, { recursive: true })
      const change = async (file: string, from: string, to: string) => {
        const text = await readFile(join(older, file), 'utf8')
        assert.ok(text.includes(from))
        await writeFile(join(older, file), text.replace(from, to))
      }
      await change('values.yaml', 'minReadySeconds: 5', 'minReadySeconds: 1\ngone: true')
      await change('values.schema.json', '"minReadySeconds": {', '"gone": {},\n    "minReadySeconds": {')
      await helm('install', 'swarmirror', older, '--set', 'settings.verify=false')
      const command = /^helm upgrade swarmirror k8s\/chart --namespace swarmirror (.+)$/m.exec(
        page('k8s/README.md'),
      )?.[1]
      await helm('upgrade', 'swarmirror', CHART, ...(command ?? assert.fail('no command')).split(' '))
      const { spec } = get('DaemonSet') as unknown as apps.IDaemonSet
      const [container = assert.fail()] = spec?.template.spec?.containers ?? []
      assert.equal(container.image, 'localhost/swarmirror:0.1.1')
      assert.equal(container.env?.find(({ name }) => name === 'SWARMIRROR_VERIFY')?.value, 'off')
      assert.equal(spec?.minReadySeconds, 5)
    } finally {
      await rm(older, { recursive: true, force: true })
    }
  })

  test('chart: two releases have different keys, and your own key is left alone', async () => {
    await helm('install', 'swarmirror', CHART)
    const first = secretKey()
    await helm('uninstall', 'swarmirror', '--no-hooks')
    await helm('install', 'swarmirror', CHART)
    assert.notEqual(secretKey(), first)
    await helm('upgrade', 'swarmirror', CHART, '--set', 'swarmKey.existingSecret=mine,swarmKey.entry=key')
    assert.equal(kubernetes.get('Secret', 'swarmirror'), undefined, 'the generated key is no longer needed')
    const { volumes } = (get('DaemonSet') as unknown as apps.IDaemonSet).spec?.template.spec ?? {}
    const { secret } = volumes?.find(({ name }) => name === 'swarm-key') ?? {}
    assert.deepEqual([secret?.secretName, secret?.items], ['mine', [{ key: 'key', path: 'swarm.key' }]])
  })

  test('chart: the notes say what you still have to do on the nodes', async () => {
    const notes = (...values: string[]) => helm('install', 'swarmirror', CHART, '--dry-run=server', ...values)
    assert.match(await notes('--set', 'distribution=talos'), /talosctl patch[\s\S]*discard_unpacked_layers = false/)
    assert.match(
      await notes('--set', 'distribution=aks'),
      /Nothing is left to do\.[\s\S]*localhost[\s\S]*no registry has/,
    )
    assert.doesNotMatch(await notes('--set', 'image.repository=registry.example/swarmirror'), /no registry has/)
    // Of every node, and also of the container that writes hosts.toml files: `logs daemonset/NAME` shows one container of one pod.
    assert.match(
      await notes(),
      /logs --selector app\.kubernetes\.io\/instance=swarmirror --all-containers --ignore-errors/,
    )
  })

  test('chart: uninstalling deletes the mirrors, restores the nodes, waits for them, and leaves nothing behind', async () => {
    await helm('install', 'swarmirror', CHART)
    const before = kubernetes.changes.length
    const uninstalling = tried('uninstall', 'swarmirror')
    const complete = async (name: string) => {
      await until(`the Job ${name}`, () => kubernetes.get('Job', name) !== undefined)
      kubernetes.put({ ...get('Job', name), status: COMPLETE } as KubernetesObject)
    }
    await complete('swarmirror-uninstall-wait')
    await until('the Job that deletes', () => kubernetes.get('Job', 'swarmirror-uninstall-delete') !== undefined)
    const changes = kubernetes.changes.slice(before)
    const order = [
      'delete DaemonSet swarmirror',
      'create RoleBinding swarmirror-uninstall',
      'create DaemonSet swarmirror-uninstall',
      'create Job swarmirror-uninstall-wait',
      'change Job swarmirror-uninstall-wait',
      'create Job swarmirror-uninstall-delete',
    ]
    assert.deepEqual(
      changes.filter((change) => order.includes(change)),
      order,
    )
    // What the second Job does.
    kubernetes.remove('DaemonSet', 'swarmirror-uninstall')
    await complete('swarmirror-uninstall-delete')
    const { code, stderr } = await uninstalling
    assert.equal(code, 0, stderr)
    assert.deepEqual(ownNames(), [])
  })

  test('chart: uninstalling fails when a node does not answer, and keeps what that node still needs', async () => {
    await helm('install', 'swarmirror', CHART)
    const { code, stderr } = await tried('uninstall', 'swarmirror', '--timeout', '1s')
    assert.notEqual(code, 0)
    assert.match(stderr, /Job\/swarmirror\/swarmirror-uninstall-wait not ready/)
    assert.deepEqual(ownNames(), ['DaemonSet swarmirror-uninstall', 'Job swarmirror-uninstall-wait'])
  })
})
