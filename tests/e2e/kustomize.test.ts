/** What each folder of k8s/ renders to is what Kubernetes takes and what a mirror needs. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp, symlink, writeFile } from 'node:fs/promises'
import { isIPv4 } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import * as prometheus from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1'
import * as apps from 'kubernetes-models/apps/v1'
import * as core from 'kubernetes-models/v1'
import { COMMANDS } from '../../lib/commands/index.ts'
import { createAdminDoor } from '../../lib/http/admin.ts'
import { createMetrics } from '../../lib/observe/metrics.ts'
import { Readiness } from '../../lib/observe/readiness.ts'
import { SETTINGS, type Settings, variableOf } from '../../lib/settings/settings.ts'
import {
  type Container,
  environmentOf,
  FOLDERS,
  type Manifests,
  NODE,
  own,
  type Pod,
  type Resource,
  ROOT,
  renderManifests,
  settingsOf,
} from './harness/manifests.ts'

const execute = promisify(execFile)
/** Seconds that a mirror takes to stop at most: withdrawing and draining, see lib/mirror/mirror.ts. */
const STOP = 5 + 20

/** Where each kind is from: the validators that are made from Kubernetes' schemas, and their types. */
const MODELS: Readonly<Record<string, { readonly module: string; readonly models: object }>> = {
  v1: { module: 'kubernetes-models/v1', models: core },
  'apps/v1': { module: 'kubernetes-models/apps/v1', models: apps },
  'monitoring.coreos.com/v1': {
    module: '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1',
    models: prometheus,
  },
}

/** The labels of nodes, and whether there is to be a mirror. */
const NODES: readonly (readonly [Readonly<Record<string, string>>, boolean])[] = [
  [{}, true],
  [{ 'node-role.kubernetes.io/control-plane': '' }, true],
  [{ 'eks.amazonaws.com/compute-type': 'ec2' }, true],
  [{ 'eks.amazonaws.com/compute-type': 'fargate' }, false],
  [{ type: 'virtual-kubelet' }, false],
  [{ 'kubernetes.io/os': 'windows' }, false],
]

const mirrors = FOLDERS.filter((name) => !name.startsWith('uninstall/'))

describe('manifests', () => {
  let manifests: Manifests
  before(async () => {
    manifests = await renderManifests()
  })
  after(() => manifests.remove())
  const of = (name: string) => manifests.of(name)

  for (const name of FOLDERS) {
    test(`manifests: ${name} is valid by the schemas of Kubernetes`, () => {
      for (const resource of of(name).resources) {
        const { models } = MODELS[resource.apiVersion] ?? { models: {} }
        const Model = (models as Record<string, new (data: object) => { validate(): void }>)[resource.kind]
        assert.ok(Model, `no schema for ${resource.apiVersion} ${resource.kind}`)
        new Model(resource).validate()
      }
    })
  }

  test('manifests: have no field that Kubernetes does not know', async () => {
    // The validators pass over unknown fields, the API server does not: TypeScript knows them.
    const folder = join(manifests.dir, 'types')
    await cp(join(ROOT, 'tsconfig.json'), join(folder, 'tsconfig.json'))
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }')
    await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
    const lines = FOLDERS.flatMap((name) =>
      of(name).resources.map((resource, index) => {
        const { module } = MODELS[resource.apiVersion] ?? { module: '' }
        const type = `import(${JSON.stringify(module)}).I${resource.kind}`
        return `// ${name}\nexport const ${name.replace(/\W/g, '_')}_${index}: ${type} = ${JSON.stringify(resource)}`
      }),
    )
    const compile = async (text: string) => {
      await writeFile(join(folder, 'main.ts'), text)
      const args = [join(ROOT, 'node_modules', '.bin', 'tsc'), '--project', folder]
      return await execute(process.execPath, args, { maxBuffer: 16 << 20 }).catch((error: { stdout: string }) => error)
    }
    assert.equal((await compile(lines.join('\n'))).stdout, '')
    const wrong = lines.join('\n').replaceAll('"hostNetwork"', '"hostNetwrk"')
    assert.match(
      (await compile(wrong)).stdout,
      /"hostNetwrk"' does not exist in type 'IPodSpec'/,
      'the check must see an unknown field',
    )
  })

  for (const name of FOLDERS) {
    test(`manifests: the settings of ${name} exist, and are right together`, () => {
      const { pod, resources } = of(name)
      for (const container of own(pod)) {
        const environment = environmentOf(container, resources)
        const known = Object.keys(SETTINGS).map(variableOf)
        assert.deepEqual(
          Object.keys(environment).filter((variable) => !known.includes(variable)),
          [],
        )
        const settings = settingsOf(environment)
        assert.equal(settings['advertise-host'], NODE)
        assert.deepEqual(settings['peer-listen'], { host: NODE, port: 5001 })
        assert.deepEqual(settings.bootstrap, [{ kind: 'dns', host: bootstrapName(resources), port: 5001 }])
        assertMounted(container, pod, settings)
      }
    })

    test(`manifests: ${name} runs what there is, confined, on every node`, () => {
      const { pod } = of(name)
      for (const { args = [] } of own(pod)) {
        const [command, ...flags] = args
        const switches = command === 'hosts' ? ['--remove'] : []
        assert.ok(
          COMMANDS.some(({ name }) => name === command),
          `no command ${command}`,
        )
        assert.deepEqual(
          flags.filter((flag) => !switches.includes(flag)),
          [],
        )
      }
      for (const { securityContext, resources } of [...(pod.initContainers ?? []), ...pod.containers]) {
        assert.equal(securityContext?.readOnlyRootFilesystem, true)
        assert.equal(securityContext?.allowPrivilegeEscalation, false)
        assert.deepEqual(securityContext?.capabilities, { drop: ['ALL'] })
        assert.ok(resources?.limits?.memory && resources.requests?.memory && resources.requests.cpu)
      }
      assert.equal(pod.securityContext?.seccompProfile?.type, 'RuntimeDefault')
      assert.equal(pod.automountServiceAccountToken, false)
      assert.equal(pod.hostNetwork, true)
      assert.equal(pod.dnsPolicy, 'ClusterFirstWithHostNet')
      assert.equal(pod.priorityClassName, 'system-node-critical')
      assert.deepEqual(pod.tolerations, [{ operator: 'Exists' }])
      for (const [labels, runs] of NODES) assert.equal(admits(pod, labels), runs, JSON.stringify(labels))
      assert.ok((pod.terminationGracePeriodSeconds ?? 0) > STOP, 'a mirror would be killed while it drains')
    })

    test(`manifests: ${name} has everything in one namespace that admits it, and no rights`, () => {
      const { resources } = of(name)
      const [namespace] = resources.filter(({ kind }) => kind === 'Namespace')
      assert.equal(namespace?.metadata.labels?.['pod-security.kubernetes.io/enforce'], 'privileged')
      for (const { kind, metadata } of resources) {
        if (kind !== 'Namespace') assert.equal(metadata.namespace, namespace?.metadata.name, kind)
        assert.ok(!/Role/.test(kind), `${kind}: the mirror needs no right`)
      }
    })
  }

  for (const name of mirrors) {
    test(`manifests: ports and probes of ${name} are those of the mirror`, async () => {
      const { pod, resources } = of(name)
      const [mirror] = own(pod).filter(({ args }) => args?.[0] === 'serve')
      assert.ok(mirror)
      const settings = settingsOf(environmentOf(mirror, resources))
      const ports = (mirror.ports ?? []).map(({ name, hostIP, hostPort, protocol = 'TCP' }) => ({
        [name ?? '']: [hostIP ?? 'any', hostPort, protocol],
      }))
      const { listen, 'peer-listen': peer, 'admin-listen': admin } = settings
      const shown = ({ host }: { host: string }) => (host === NODE ? 'any' : host)
      assert.deepEqual(Object.assign({}, ...ports), {
        registry: [shown(listen), listen.port, 'TCP'],
        peer: [shown(peer), peer.port, 'TCP'],
        swarm: [shown(peer), peer.port, 'UDP'],
        admin: [shown(admin), admin.port, 'TCP'],
      })
      assert.equal(listen.host, '127.0.0.1', 'whoever reaches the registry door can pull what the swarm holds')
      const door = createAdminDoor({ readiness: new Readiness(), metrics: createMetrics() })
      for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe'] as const) {
        const asked: core.IHTTPGetAction | undefined = mirror[probe]?.httpGet
        assert.deepEqual({ host: asked?.host ?? NODE, port: asked?.port }, admin, probe)
        assert.equal((await door.request(asked?.path ?? '')).status, 200, probe)
      }
    })

    test(`manifests: the service of ${name} names every node from the first start on`, () => {
      const { resources, daemonSet } = of(name)
      const [service] = resources.filter(({ kind }) => kind === 'Service') as core.IService[]
      assert.equal(service?.spec?.clusterIP, 'None')
      assert.equal(service.spec.publishNotReadyAddresses, true)
      assert.deepEqual(service.spec.selector, daemonSet.spec?.selector.matchLabels)
      assert.deepEqual(daemonSet.spec?.selector.matchLabels, daemonSet.spec?.template.metadata?.labels)
    })
  }

  test('manifests: the Prometheus overlay scrapes the port that the mirror has', () => {
    const { resources } = of('overlays/prometheus')
    const [monitor] = resources.filter(
      ({ kind }) => kind === 'ServiceMonitor',
    ) as unknown as prometheus.IServiceMonitor[]
    const [service] = resources.filter(({ kind }) => kind === 'Service') as core.IService[]
    const [endpoint] = monitor?.spec?.endpoints ?? []
    assert.deepEqual(monitor?.spec?.selector.matchLabels, service?.metadata?.labels)
    const port = service?.spec?.ports?.find(({ name }) => name === endpoint?.port)
    assert.deepEqual([port?.port, port?.targetPort, endpoint?.path], [5002, 'admin', '/metrics'])
  })
})

/** The name of the headless service, as a pod's search domains complete it. */
function bootstrapName(resources: readonly Resource[]): string {
  const service = resources.find(({ kind }) => kind === 'Service')
  const name = `${service?.metadata.name}.${service?.metadata.namespace}.svc`
  assert.ok(!isIPv4(name))
  return name
}

/** Asserts that the container sees the node's paths where settings name them, and can write hosts.toml files alone. */
function assertMounted({ args = [], volumeMounts = [] }: Container, { volumes = [] }: Pod, settings: Settings): void {
  const writable: string[] = []
  for (const { name, mountPath, readOnly } of volumeMounts) {
    const volume = volumes.find((volume) => volume.name === name)
    assert.ok(volume, `no volume ${name}`)
    if (volume.hostPath === undefined) continue
    assert.equal(volume.hostPath.path, mountPath, 'another path inside than on the node')
    if (readOnly !== true) writable.push(mountPath)
  }
  assert.deepEqual(writable, [settings['certs-dir']])
  const mounted = (path: string) => volumeMounts.some(({ mountPath }) => `${path}/`.startsWith(`${mountPath}/`))
  const serves = ['containerd-config', 'swarm-key-file', 'data-dir'] as const
  const needed = ['containerd-socket', 'certs-dir', ...(args[0] === 'serve' ? serves : [])] as const
  for (const name of needed) assert.ok(mounted(settings[name] ?? ''), `--${name} ${settings[name]} is not mounted`)
  const content = volumeMounts.some(({ mountPath }) => mountPath.endsWith('/io.containerd.content.v1.content'))
  assert.equal(content, args[0] === 'serve')
}

/** Whether a pod may be on a Linux node with these labels, as the scheduler sees it. */
function admits({ affinity, nodeSelector = {} }: Pod, given: Readonly<Record<string, string>>): boolean {
  const labels: Readonly<Record<string, string | undefined>> = { 'kubernetes.io/os': 'linux', ...given }
  const [term] = affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? []
  const keeps = (term?.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
    assert.equal(operator, 'NotIn', 'the only one that is known here')
    return !values.includes(labels[key] ?? '')
  })
  return keeps && Object.entries(nodeSelector).every(([key, value]) => labels[key] === value)
}
