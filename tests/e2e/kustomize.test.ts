import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { isIPv4 } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import * as prometheus from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1'
import * as apps from 'kubernetes-models/apps/v1'
import * as core from 'kubernetes-models/v1'
import { parse, parseAllDocuments } from 'yaml'
import { COMMANDS } from '../../lib/commands/index.ts'
import { createAdminDoor } from '../../lib/http/admin.ts'
import { createMetrics } from '../../lib/observe/metrics.ts'
import { readSettings } from '../../lib/read-settings.ts'
import { SETTINGS, type Settings, variableOf } from '../../lib/settings.ts'
import { readmeBlock } from '../fixtures/readme.ts'

const execute = promisify(execFile)
const ROOT = join(import.meta.dirname, '..', '..')
const K8S = join(ROOT, 'k8s')
const README = await readFile(join(ROOT, 'README.md'), 'utf8')
/** As `key` prints it, with the end of the line. */
const KEY = `${'a'.repeat(43)}\n`
/** The node that the manifests are read for. */
const NODE = '10.1.2.3'
/** Seconds that a mirror takes to stop at most: withdrawing and draining, see lib/mirror.ts. */
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

interface Resource {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Record<string, string> }
}

type Pod = NonNullable<NonNullable<NonNullable<core.IPodTemplateSpec['spec']>>>
type Container = Pod['containers'][number]

interface Rendered {
  /** The folder below k8s/. */
  readonly name: string
  readonly resources: readonly Resource[]
  readonly pod: Pod
  readonly daemonSet: apps.IDaemonSet
}

const folders = [
  'base',
  ...(await readdir(join(K8S, 'overlays'))).map((name) => `overlays/${name}`),
  ...(await readdir(join(K8S, 'uninstall'))).map((name) => `uninstall/${name}`),
]
const mirrors = folders.filter((name) => !name.startsWith('uninstall/'))

describe('manifests', () => {
  const rendered = new Map<string, Rendered>()
  let dir = ''

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'swarmirror-k8s-'))
    // A person's own key may lie in the work tree: the copy has another one.
    await cp(K8S, join(dir, 'k8s'), { recursive: true })
    await writeFile(join(dir, 'k8s', 'base', 'swarm.key'), KEY)
    for (const name of folders) rendered.set(name, await render(join(dir, 'k8s'), name))
  })
  after(() => rm(dir, { recursive: true, force: true }))

  const of = (name: string): Rendered => {
    const found = rendered.get(name)
    assert.ok(found, `${name} was not rendered`)
    return found
  }

  for (const name of folders) {
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
    const folder = join(dir, 'types')
    await cp(join(ROOT, 'tsconfig.json'), join(folder, 'tsconfig.json'))
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }')
    await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
    const lines = folders.flatMap((name) =>
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

  for (const name of folders) {
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
      const door = createAdminDoor({ readiness: () => ({ ready: true }), metrics: createMetrics() })
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

  for (const name of folders.filter((name) => name.startsWith('uninstall/'))) {
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
    const own = join(dir, 'k8s', 'overlays', 'listed')
    await mkdir(own)
    const listed = readmeBlock('own overlay').replace(
      /^ +- SWARMIRROR_EXCLUDE=.*$/m,
      '      - SWARMIRROR_REGISTRIES=ghcr.io',
    )
    await writeFile(join(own, 'kustomization.yaml'), listed)
    const away = join(dir, 'k8s', 'uninstall', 'listed')
    await mkdir(away)
    await writeFile(join(away, 'kustomization.yaml'), readmeBlock('own uninstallation').replace('own', 'listed'))
    const registries = async (name: string) => {
      const { pod, resources } = await render(join(dir, 'k8s'), name)
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
    const without = join(dir, 'without')
    await cp(K8S, without, { recursive: true })
    await rm(join(without, 'base', 'swarm.key'), { force: true })
    await assert.rejects(execute('kubectl', ['kustomize', join(without, 'base')]), /swarm\.key/)
    const [secret] = of('base').resources.filter(({ kind }) => kind === 'Secret') as core.ISecret[]
    assert.equal(Buffer.from(secret?.data?.['swarm.key'] ?? '', 'base64').toString(), KEY)
  })

  test("manifests: the README's overlay of one's own does what it says", async () => {
    const own = join(dir, 'k8s', 'overlays', 'own')
    await mkdir(own)
    await writeFile(join(own, 'kustomization.yaml'), readmeBlock('own overlay'))
    const { pod, resources } = await render(join(dir, 'k8s'), 'overlays/own')
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
      const env = { PATH: dir, HOME: dir, KIND_EXPERIMENTAL_PROVIDER: 'docker' }
      const args = ['create', 'cluster', '--kubeconfig', join(dir, 'kubeconfig'), '--config', file]
      return await execute('/usr/bin/kind', args, { env }).catch((error: { stderr: string }) => error)
    }
    const file = join(K8S, 'overlays', 'kind', 'cluster.yaml')
    assert.match((await create(file)).stderr, /"docker": executable file not found/)
    const wrong = join(dir, 'wrong.yaml')
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

async function render(root: string, name: string): Promise<Rendered> {
  const { stdout } = await execute('kubectl', ['kustomize', join(root, name)])
  // As Kubernetes reads them: YAML 1.1, where 0400 is octal.
  const resources = parseAllDocuments(stdout, { version: '1.1' }).map((document) => document.toJS() as Resource)
  const [daemonSet, ...more] = resources.filter(({ kind }) => kind === 'DaemonSet') as apps.IDaemonSet[]
  assert.ok(daemonSet?.spec?.template.spec && more.length === 0, `${name} has one DaemonSet`)
  return { name, resources, daemonSet, pod: daemonSet.spec.template.spec }
}

/** The containers of the mirror's own image. */
function own({ initContainers = [], containers }: Pod): Container[] {
  return [...initContainers, ...containers].filter(({ image }) => image?.startsWith('localhost/swarmirror:'))
}

/** What the kubelet makes of a container's environment: `$(NAME)` is replaced by a variable that stands before it. */
function environmentOf(container: Container, resources: readonly Resource[]): Record<string, string> {
  const environment: Record<string, string> = {}
  for (const { configMapRef } of container.envFrom ?? []) {
    const map = resources.find(({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === configMapRef?.name)
    assert.ok(map, `no ConfigMap ${configMapRef?.name}`)
    Object.assign(environment, (map as core.IConfigMap).data)
  }
  for (const { name, value, valueFrom } of container.env ?? []) {
    const field = valueFrom?.fieldRef?.fieldPath
    assert.ok(value !== undefined || field === 'status.hostIP', `${name} has a value that is known here`)
    environment[name] = value?.replace(/\$\((\w+)\)/g, (whole, other) => environment[other] ?? whole) ?? NODE
  }
  return environment
}

function settingsOf(environment: Readonly<Record<string, string>>): Settings {
  const readFile = (path: string) => {
    assert.equal(path, '/etc/swarmirror/swarm.key')
    return KEY
  }
  return readSettings({ flags: [], environment, readFile })
}

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
