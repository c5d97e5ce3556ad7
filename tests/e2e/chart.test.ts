/** The chart renders what Kubernetes accepts and what a mirror needs. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import * as prometheus from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1'
import * as apps from 'kubernetes-models/apps/v1'
import * as batch from 'kubernetes-models/batch/v1'
import * as rbac from 'kubernetes-models/rbac.authorization.k8s.io/v1'
import * as core from 'kubernetes-models/v1'
import { parse } from 'yaml'
import { COMMANDS } from '../../lib/commands/index.ts'
import { createAdminDoor } from '../../lib/http/admin.ts'
import { IN_CLUSTER } from '../../lib/mirror/node-taint.ts'
import { createMetrics } from '../../lib/observe/metrics.ts'
import { Readiness } from '../../lib/observe/readiness.ts'
import { SETTINGS, type Settings, variableOf } from '../../lib/settings/settings.ts'
import { blockOf } from '../fixtures/readme.ts'
import {
  CHART,
  type Container,
  environmentOf,
  helm,
  NODE,
  own,
  type Pod,
  podOf,
  type Rendered,
  type Resource,
  ROOT,
  readResources,
  renderChart,
  settingsOf,
  tryHelm,
} from './harness/chart.ts'

const execute = promisify(execFile)
/** The most seconds that a mirror takes to stop: it withdraws and drains, see lib/mirror/mirror.ts. */
const STOP = 5 + 20

/** Where each kind comes from: the validators generated from Kubernetes' schemas, and their types. */
const MODELS: Readonly<Record<string, { readonly module: string; readonly models: object }>> = {
  v1: { module: 'kubernetes-models/v1', models: core },
  'apps/v1': { module: 'kubernetes-models/apps/v1', models: apps },
  'batch/v1': { module: 'kubernetes-models/batch/v1', models: batch },
  'rbac.authorization.k8s.io/v1': { module: 'kubernetes-models/rbac.authorization.k8s.io/v1', models: rbac },
  'monitoring.coreos.com/v1': {
    module: '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1',
    models: prometheus,
  },
}

/** The labels of nodes, and whether a mirror should run there. */
const NODES: readonly (readonly [Readonly<Record<string, string>>, boolean])[] = [
  [{}, true],
  [{ 'node-role.kubernetes.io/control-plane': '' }, true],
  [{ 'eks.amazonaws.com/compute-type': 'ec2' }, true],
  [{ 'eks.amazonaws.com/compute-type': 'fargate' }, false],
  [{ type: 'virtual-kubelet' }, false],
  [{ 'kubernetes.io/os': 'windows' }, false],
]

const DISTRIBUTIONS = Object.keys(parse(await readFile(join(CHART, 'distributions.yaml'), 'utf8')))
/** Every value that adds resources or fields. */
const EVERYTHING = {
  image: { digest: `sha256:${'0'.repeat(64)}` },
  imagePullSecrets: [{ name: 'pull' }],
  settings: {
    verify: false,
    exclude: ['^a/', '^b/'],
    'max-upload-rate': 20_000_000,
    page: null,
    'peer-transfer': 'plain',
  },
  ports: { registry: 6000, peer: 6001, admin: 6002, metrics: 6003 },
  metrics: { enabled: true, monitor: 'ServiceMonitor', rules: true, dashboard: true, monitorLabels: { release: 'p' } },
  seLinuxOptions: { type: 'spc_t' },
  labels: { team: 'a' },
  podLabels: { pod: 'b' },
  podAnnotations: { note: 'c' },
  extraEnv: [{ name: 'TZ', value: 'UTC' }],
  extraVolumes: [{ name: 'more', emptyDir: {} }],
  extraVolumeMounts: [{ name: 'more', mountPath: '/more' }],
  nameOverride: 'mirror',
}
const VARIANTS: Readonly<Record<string, object>> = {
  ...Object.fromEntries(DISTRIBUTIONS.map((distribution) => [distribution, { distribution }])),
  'some registries': { settings: { registries: ['docker.io', 'ghcr.io'] } },
  'hosts.toml that is kept': { settings: { 'manage-hosts': true } },
  'hosts.toml that is not kept': { distribution: 'k3s', settings: { 'manage-hosts': 'off' } },
  'a taint': { nodeTaint: 'swarmirror/not-ready' },
  'a PodMonitor': { metrics: { enabled: true, monitor: 'PodMonitor' } },
  everything: EVERYTHING,
}

describe('chart', () => {
  const rendered = new Map<string, Rendered>()
  let dir: string
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'swarmirror-chart-'))
    for (const [name, values] of Object.entries(VARIANTS)) rendered.set(name, await renderChart(values))
  })
  after(() => rm(dir, { recursive: true, force: true }))
  const of = (name: string) => rendered.get(name) ?? assert.fail(`${name} was not rendered`)

  test('chart: helm lint finds nothing, and helm packages the same bytes each time', async () => {
    assert.doesNotMatch(await helm('lint', '--strict', CHART), /WARNING|ERROR/)
    const pack = async (name: string) => {
      await execute(process.execPath, [join(ROOT, 'k8s', 'helm.ts'), 'package', join(dir, name)])
      return await readFile(join(dir, name, `swarmirror-${version}.tgz`))
    }
    const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'))
    const chart = parse(await readFile(join(CHART, 'Chart.yaml'), 'utf8'))
    assert.deepEqual([chart.version, chart.appVersion], [version, version])
    const packed = await pack('first')
    assert.ok(packed.equals(await pack('second')))
    const { resources } = await renderChart({}, join(dir, 'first', `swarmirror-${version}.tgz`))
    assert.deepEqual(resources, of('none').resources, 'the package lacks a resource')
  })

  for (const name of Object.keys(VARIANTS)) {
    test(`chart for ${name}: valid by the schemas of Kubernetes`, () => {
      for (const resource of of(name).resources) {
        const { models } = MODELS[resource.apiVersion] ?? { models: {} }
        const Model = (models as Record<string, new (data: object) => { validate(): void }>)[resource.kind]
        assert.ok(Model, `no schema for ${resource.apiVersion} ${resource.kind}`)
        new Model(resource).validate()
      }
    })
  }

  test('chart: has no field that Kubernetes does not know', async () => {
    // The validators ignore unknown fields, but the API server does not. TypeScript's types find them.
    await cp(join(ROOT, 'tsconfig.json'), join(dir, 'tsconfig.json'))
    await writeFile(join(dir, 'package.json'), '{ "type": "module" }')
    await symlink(join(ROOT, 'node_modules'), join(dir, 'node_modules'))
    const lines = Object.keys(VARIANTS).flatMap((name) =>
      of(name).resources.map((resource, index) => {
        const { module } = MODELS[resource.apiVersion] ?? { module: '' }
        const type = `import(${JSON.stringify(module)}).I${resource.kind}`
        return `// ${name}\nexport const ${name.replace(/\W/g, '_')}_${index}: ${type} = ${JSON.stringify(resource)}`
      }),
    )
    const compile = async (text: string) => {
      await writeFile(join(dir, 'main.ts'), text)
      const args = [join(ROOT, 'node_modules', '.bin', 'tsc'), '--project', dir]
      return await execute(process.execPath, args, { maxBuffer: 16 << 20 }).catch((error: { stdout: string }) => error)
    }
    assert.equal((await compile(lines.join('\n'))).stdout, '')
    const wrong = (lines.find((line) => line.includes('"hostNetwork"')) ?? '').replace('"hostNetwork"', '"hostNetwrk"')
    assert.match(
      (await compile(wrong)).stdout,
      /"hostNetwrk"' does not exist in type 'IPodSpec'/,
      'the check must find an unknown field',
    )
  })

  for (const name of Object.keys(VARIANTS)) {
    test(`chart for ${name}: its settings exist and agree with each other`, () => {
      const { pod, resources, uninstall } = of(name)
      for (const container of [...own(pod), ...(uninstall ? own(podOf(uninstall)) : [])]) {
        const { TZ: _, NODE_NAME: __, NODE_EXTRA_CA_CERTS: ___, ...environment } = environmentOf(container)
        const known = Object.keys(SETTINGS).map(variableOf)
        assert.deepEqual(
          Object.keys(environment).filter((variable) => !known.includes(variable)),
          [],
        )
        const settings = settingsOf(environment)
        const port = name === 'everything' ? 6001 : 5001
        assert.equal(settings['advertise-host'], NODE)
        assert.deepEqual(settings['peer-listen'], { host: NODE, port })
        assert.deepEqual(settings.bootstrap, [{ kind: 'dns', host: serviceName(resources), port }])
        assertMounted(container, container.args?.includes('--remove') ? podOf(uninstall) : pod, settings)
      }
    })

    test(`chart for ${name}: runs commands that exist, confined, on every node`, () => {
      const { pod, uninstall, daemonSet } = of(name)
      const all = [pod, ...(uninstall ? [podOf(uninstall)] : [])]
      for (const { args = [] } of all.flatMap(own)) {
        const [command, ...flags] = args
        assert.ok(
          COMMANDS.some(({ name }) => name === command),
          `no command ${command}`,
        )
        assert.deepEqual(
          flags.filter((flag) => !(command === 'hosts' && flag === '--remove')),
          [],
        )
      }
      for (const pod of all) {
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
      }
      assert.ok((pod.terminationGracePeriodSeconds ?? 0) > STOP, 'a mirror would be killed while it drains')
      // Both pods use the same port, so the old pod must leave the node before the new one starts.
      assert.equal(daemonSet.spec?.updateStrategy?.rollingUpdate?.maxSurge, 0)
    })

    test(`chart for ${name}: everything is in one namespace, which grants permissions for uninstalling only`, () => {
      const { resources } = of(name)
      const [ofCluster, others] = [true, false].map((is) =>
        resources.filter(({ kind }) => is === /^Cluster/.test(kind)),
      )
      assert.deepEqual(
        ofCluster?.map(({ kind }) => kind),
        name === 'a taint' ? ['ClusterRole', 'ClusterRoleBinding'] : [],
      )
      for (const { kind, metadata } of others ?? []) {
        assert.equal(metadata.namespace, 'swarmirror', kind)
        if (/Role/.test(kind)) assert.equal(metadata.annotations?.['helm.sh/hook'], 'post-delete', kind)
      }
      for (const { rules = [] } of resources.filter(({ kind }) => kind === 'Role') as rbac.IRole[])
        for (const { apiGroups, resources } of rules)
          assert.deepEqual([apiGroups, resources], [['apps'], ['daemonsets']])
    })

    test(`chart for ${name}: ports and probes are those of the mirror`, async () => {
      const [mirror] = own(of(name).pod).filter(({ args }) => args?.[0] === 'serve')
      // An image given by digest has another name.
      const container = mirror ?? of(name).pod.containers[0] ?? assert.fail()
      const settings = settingsOf(environmentOf(container))
      const ports = (container.ports ?? []).map(({ name, hostIP, hostPort, containerPort, protocol = 'TCP' }) => {
        assert.equal(containerPort, hostPort)
        return { [name ?? '']: [hostIP ?? 'any', hostPort, protocol] }
      })
      const { listen, 'peer-listen': peer, 'admin-listen': admin, 'metrics-listen': metrics } = settings
      const shown = ({ host }: { host: string }) => (host === NODE ? 'any' : host)
      assert.deepEqual(Object.assign({}, ...ports), {
        registry: [shown(listen), listen.port, 'TCP'],
        peer: [shown(peer), peer.port, 'TCP'],
        swarm: [shown(peer), peer.port, 'UDP'],
        admin: [shown(admin), admin.port, 'TCP'],
        ...(metrics && { metrics: [shown(metrics), metrics.port, 'TCP'] }),
      })
      assert.equal(
        listen.host,
        '127.0.0.1',
        'whoever reaches the registry door can pull everything that the swarm holds',
      )
      assert.equal(admin.host, '127.0.0.1', 'the page names images')
      const door = createAdminDoor({ readiness: new Readiness(), metrics: createMetrics() })
      for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe'] as const) {
        const asked: core.IHTTPGetAction | undefined = container[probe]?.httpGet
        assert.deepEqual({ host: asked?.host, port: asked?.port }, admin, probe)
        assert.equal((await door.request(asked?.path ?? '')).status, 200, probe)
      }
    })

    test(`chart for ${name}: the service names every node from its first start`, () => {
      const { resources, daemonSet } = of(name)
      const [service] = resources.filter(({ kind }) => kind === 'Service') as core.IService[]
      assert.equal(service?.spec?.clusterIP, 'None')
      assert.equal(service.spec.publishNotReadyAddresses, true)
      assert.deepEqual(service.spec.selector, daemonSet.spec?.selector.matchLabels)
      const { matchLabels = {} } = daemonSet.spec?.selector ?? {}
      const labels = daemonSet.spec?.template.metadata?.labels ?? {}
      assert.deepEqual({ ...labels, ...matchLabels }, labels)
    })
  }

  test('chart: its values end up where they belong', () => {
    const { resources, pod, daemonSet, uninstall } = of('everything')
    const [mirror = assert.fail()] = pod.containers
    assert.equal(mirror.image, `localhost/swarmirror@sha256:${'0'.repeat(64)}`)
    const environment = environmentOf(mirror)
    const settings = settingsOf(environment)
    assert.equal(settings.verify, 'off', 'YAML reads off as a boolean, which must become off again')
    assert.equal(settings['max-upload-rate'], 20_000_000)
    assert.equal(settings.exclude?.length, 2)
    assert.equal(settings.page, SETTINGS.page.default)
    assert.equal(settings['peer-transfer'], 'plain')
    assert.equal(environment.TZ, 'UTC')
    assert.deepEqual(pod.imagePullSecrets, [{ name: 'pull' }])
    assert.deepEqual(podOf(uninstall).imagePullSecrets, [{ name: 'pull' }])
    assert.deepEqual(pod.securityContext?.seLinuxOptions, { type: 'spc_t' })
    assert.equal(daemonSet.spec?.template.metadata?.labels?.pod, 'b')
    assert.equal(daemonSet.spec?.template.metadata?.annotations?.note, 'c')
    for (const { metadata } of resources) assert.equal(metadata.labels?.team, 'a', metadata.name)
    assert.ok(mirror.volumeMounts?.some(({ mountPath }) => mountPath === '/more'))
    assert.deepEqual(of('bottlerocket').pod.securityContext?.seLinuxOptions?.type, 'super_t')
  })

  test('chart: only the one container that removes a taint from its node has permission to do so', () => {
    const { resources, pod } = of('a taint')
    const [role] = resources.filter(({ kind }) => kind === 'ClusterRole') as rbac.IClusterRole[]
    assert.deepEqual(role?.rules, [{ apiGroups: [''], resources: ['nodes'], verbs: ['get', 'patch'] }])
    const [mirror = assert.fail()] = pod.containers
    const environment = environmentOf(mirror)
    assert.deepEqual(settingsOf(environment).untaint, { node: 'node-1', key: 'swarmirror/not-ready' })
    const directory = dirname(IN_CLUSTER.tokenFile)
    assert.equal(environment.NODE_EXTRA_CA_CERTS, join(directory, 'ca.crt'))
    const holders = [...(pod.initContainers ?? []), ...pod.containers].filter(({ volumeMounts = [] }) =>
      volumeMounts.some(({ mountPath }) => mountPath === directory),
    )
    assert.deepEqual(
      holders.map(({ name }) => name),
      ['swarmirror'],
    )
  })

  test("chart: Prometheus scrapes the mirror's port", () => {
    const { resources, pod } = of('everything')
    const monitors = resources.filter(
      ({ kind }) => kind === 'ServiceMonitor',
    ) as unknown as prometheus.IServiceMonitor[]
    const [service] = resources.filter(({ kind }) => kind === 'Service') as core.IService[]
    const [endpoint] = monitors[0]?.spec?.endpoints ?? []
    assert.equal(monitors[0]?.metadata?.labels?.release, 'p')
    const wanted = monitors[0]?.spec?.selector.matchLabels ?? {}
    const labels = service?.metadata?.labels ?? {}
    assert.deepEqual({ ...labels, ...wanted }, labels)
    const port = service?.spec?.ports?.find(({ name }) => name === endpoint?.port)
    assert.deepEqual([port?.port, port?.targetPort, endpoint?.path], [6003, 'metrics', '/metrics'])
    assert.ok(pod.containers[0]?.ports?.some(({ name }) => name === port?.targetPort))
    const pods = of('a PodMonitor').resources.filter(({ kind }) => kind === 'PodMonitor')
    const [podMonitor] = pods as unknown as prometheus.IPodMonitor[]
    assert.equal(podMonitor?.spec?.podMetricsEndpoints?.[0]?.port, 'metrics')
    assert.deepEqual(podMonitor?.spec?.selector.matchLabels, of('a PodMonitor').daemonSet.spec?.selector.matchLabels)
  })

  test('chart: mirrors maintain hosts.toml where the distribution rewrites it, unless the values say otherwise', () => {
    const kept = ({ pod }: Rendered) =>
      settingsOf(environmentOf(pod.containers[0] ?? assert.fail('no container')))['manage-hosts']
    const names = Object.keys(VARIANTS).filter((name) => name !== 'everything')
    assert.deepEqual(
      names.filter((name) => kept(of(name)) === 'on'),
      ['k3s', 'rke2', 'hosts.toml that is kept'],
    )
  })

  test('chart: a setting that is null is as if it were not given', async () => {
    const settings = { registries: null, also: null, bootstrap: null, 'manage-hosts': null, verify: null }
    for (const distribution of ['none', 'gke', 'k3s']) {
      const { resources } = await renderChart({ distribution, settings })
      assert.deepEqual(resources, of(distribution).resources, distribution)
    }
  })

  test("chart: the documentation's values do what they say", async () => {
    const { pod, resources } = await renderChart(parse(blockOf('k8s/README.md', 'values')))
    const [mirror = assert.fail()] = pod.containers
    const settings = settingsOf(environmentOf(mirror))
    assert.equal(mirror.image, 'registry.example/swarmirror:0.1.0')
    assert.equal(settings['max-upload-rate'], 50_000_000)
    assert.equal(settings.exclude?.[0]?.test('registry.example/secret/app:1'), true)
    assert.equal(settings['certs-dir'], '/var/lib/rancher/k3s/agent/etc/containerd/certs.d')
    assert.deepEqual(settings['metrics-listen'], { host: NODE, port: 5003 })
    const kinds = resources.map(({ kind }) => kind)
    for (const kind of ['ServiceMonitor', 'PrometheusRule', 'ConfigMap']) assert.ok(kinds.includes(kind), kind)
  })

  test('chart: bad values are refused by name', async () => {
    const cases: readonly (readonly [object, RegExp])[] = [
      [{ distribution: 'kubeadm' }, /'\/distribution'/],
      [{ settings: { verfy: 'on' } }, /'\/settings'.*'verfy' not allowed/],
      [{ settings: { 'max-transfers': 1.5 } }, /'\/settings\/max-transfers'/],
      [{ settings: { listen: '0.0.0.0:5000' } }, /'\/settings'.*'listen' not allowed/],
      [{ image: { digest: 'sha256:12' } }, /'\/image\/digest'/],
      [{ image: { repository: 'registry.example/swarmirror:1' } }, /'\/image\/repository'/],
      [{ ports: { registry: 0 } }, /'\/ports\/registry'/],
      [{ paths: { socket: 'containerd.sock' } }, /'\/paths\/socket'/],
      [{ metrics: { monitor: 'ServiceMonitor' } }, /'\/metrics\/enabled'/],
      [{ unknown: 1 }, /'unknown' not allowed/],
    ]
    for (const [values, problem] of cases) {
      const [[name, value] = assert.fail()] = Object.entries(values)
      const args = [
        'template',
        CHART,
        '--set',
        'swarmKey.existingSecret=k',
        '--set-json',
        `${name}=${JSON.stringify(value)}`,
      ]
      const { code, stderr } = await tryHelm(args)
      assert.notEqual(code, 0, `${name} was taken`)
      assert.match(stderr, problem)
    }
  })

  test('chart: the plain manifests are the same, with their namespace, and the uninstalling part is a separate file', async () => {
    const manifests = async (...args: string[]) => {
      const all = [join(ROOT, 'k8s', 'helm.ts'), 'manifests', '--set', 'distribution=talos', ...args]
      return readResources((await execute(process.execPath, all)).stdout)
    }
    const { resources } = of('talos')
    const isHook = ({ metadata }: Resource) => metadata.annotations?.['helm.sh/hook'] !== undefined
    const [namespace, ...others] = await manifests()
    assert.deepEqual([namespace?.kind, namespace?.metadata.name], ['Namespace', 'swarmirror'])
    assert.equal(namespace?.metadata.labels?.['pod-security.kubernetes.io/enforce'], 'privileged')
    assert.deepEqual(
      others,
      resources.filter((resource) => !isHook(resource)),
    )
    assert.deepEqual(await manifests('--uninstall'), [of('talos').uninstall])
    // Deleting the namespace leaves what is in none.
    const text = await readFile(join(ROOT, 'k8s', 'README.md'), 'utf8')
    const deleted = /^kubectl delete clusterrolebinding,clusterrole (\S+)/m.exec(text)?.[1]
    const ofCluster = of('a taint').resources.filter(({ kind }) => /^Cluster/.test(kind))
    for (const { kind, metadata } of ofCluster) assert.equal(deleted, metadata.name, kind)
  })

  test('chart: makes no key when no cluster can keep it, and says what to do', async () => {
    const { code, stderr } = await tryHelm(['template', CHART])
    assert.notEqual(code, 0)
    assert.match(stderr, /make a Secret with it, and set swarmKey\.existingSecret/)
    assert.ok(of('none').resources.every(({ kind }) => kind !== 'Secret'))
  })

  for (const name of Object.keys(VARIANTS)) {
    test(`chart for ${name}: uninstalling undoes what its pods wrote, where they wrote it, once they are gone`, () => {
      const { pod, uninstall } = of(name)
      const [writes] = pod.initContainers ?? []
      if (writes === undefined) return assert.equal(uninstall, undefined, 'its pods write nothing')
      const removing = podOf(uninstall)
      const [removes] = removing.initContainers ?? []
      assert.deepEqual(writes.args, ['hosts'])
      assert.deepEqual(removes?.args, ['hosts', '--remove'])
      const { env: _, ...place } = writes
      const { env: __, ...samePlace } = removes ?? {}
      assert.deepEqual({ ...samePlace, args: [] }, { ...place, args: [] })
      const settings = settingsOf(environmentOf(removes ?? assert.fail()))
      assert.equal(settings['certs-dir'], settingsOf(environmentOf(writes))['certs-dir'])
      assert.equal(settings.registries, undefined, 'also registries that are no longer in the list')
      // The scheduler never gives two pods of a node the same port.
      const ports = ({ containers }: Pod) =>
        containers.flatMap(({ ports = [] }) => ports.map(({ hostPort }) => hostPort))
      assert.ok(ports(removing).length > 0)
      assert.deepEqual(
        ports(removing).filter((port) => !ports(pod).includes(port)),
        [],
      )
    })
  }

  test("chart: kind accepts the cluster's configuration", async () => {
    // Without a container engine in its PATH, kind reads the configuration strictly and then stops.
    const create = async (file: string) => {
      const env = { PATH: dir, HOME: dir, KIND_EXPERIMENTAL_PROVIDER: 'docker' }
      const args = ['create', 'cluster', '--kubeconfig', join(dir, 'kubeconfig'), '--config', file]
      return await execute('/usr/bin/kind', args, { env }).catch((error: { stderr: string }) => error)
    }
    const file = join(CHART, 'nodes', 'kind.yaml')
    assert.match((await create(file)).stderr, /"docker": executable file not found/)
    const wrong = join(dir, 'wrong.yaml')
    await writeFile(wrong, (await readFile(file, 'utf8')).replace('role: worker', 'rolle: worker'))
    assert.match((await create(wrong)).stderr, /unable to decode config/, 'a misspelt field must be found')
  })

  test("chart: the configuration for the nodes points containerd to the distribution's directory", async () => {
    const certs = (name: string) => settingsOf(environmentOf(own(of(name).pod)[0] ?? assert.fail()))['certs-dir']
    const text = (path: string) => readFile(join(CHART, 'nodes', path), 'utf8')
    const paths = (toml: string) => [...toml.matchAll(/^\s*config_path = "(.*)"$/gm)].map(([, path]) => path)
    const kind = parse(await text('kind.yaml')) as { nodes: unknown[]; containerdConfigPatches: string[] }
    assert.equal(kind.nodes.length, 3)
    const patches = kind.containerdConfigPatches.join('\n')
    assert.deepEqual(paths(patches), [certs('kind'), certs('kind')])
    assert.equal(patches.match(/discard_unpacked_layers = false/g)?.length, 2)
    assert.deepEqual(paths(await text('k0s.toml')), [certs('k0s')])
    const eks = parse(await text('eks.yaml')) as { spec: { containerd: { config: string } } }
    assert.deepEqual(paths(eks.spec.containerd.config), [certs('eks')])
    assert.match(eks.spec.containerd.config, /discard_unpacked_layers = false/)
    const talos = parse(await text('talos.yaml')) as { machine: { files: { content: string }[] } }
    assert.match(talos.machine.files[0]?.content ?? '', /discard_unpacked_layers = false/)
    const gke = parse(await text('gke.yaml')) as { registryHosts: { hosts: { host: string }[] }[] }
    const listen = `http://${SETTINGS.listen.default}`
    assert.ok(gke.registryHosts.every(({ hosts }) => hosts[0]?.host === listen))
    assert.match(await text('bottlerocket.toml'), new RegExp(`endpoint = \\["${listen}"\\]`))
  })
})

/** The name of the headless service, which a pod's search domains complete. */
function serviceName(resources: readonly Resource[]): string {
  const service = resources.find(({ kind }) => kind === 'Service')
  return `${service?.metadata.name}.${service?.metadata.namespace}.svc`
}

/** Asserts that the container sees the node's paths where its settings name them, and that it writes only hosts.toml files. */
function assertMounted({ args = [], volumeMounts = [] }: Container, pod: Pod, settings: Settings): void {
  const writable: string[] = []
  for (const { name, mountPath, readOnly } of volumeMounts) {
    const volume = pod.volumes?.find((volume) => volume.name === name)
    assert.ok(volume, `no volume ${name}`)
    if (volume.hostPath === undefined) continue
    assert.equal(volume.hostPath.path, mountPath, 'the path inside differs from the one on the node')
    if (readOnly !== true) writable.push(mountPath)
  }
  // A mirror checks itself through the hosts.toml for all registries. If the pods write none, the mirror writes one for its probe.
  const needsOwn = settings.registries !== undefined || pod.initContainers === undefined
  const writes = args[0] === 'hosts' || needsOwn || settings['manage-hosts'] === 'on'
  assert.deepEqual(writable, writes ? [settings['certs-dir']] : [])
  const socket = volumeMounts.find(({ name }) => name === 'containerd-socket')
  assert.equal(socket?.mountPath, args[0] === 'serve' ? settings['containerd-socket'] : undefined, 'only that one file')
  const mounted = (path: string) => volumeMounts.some(({ mountPath }) => `${path}/`.startsWith(`${mountPath}/`))
  const serves = ['containerd-config', 'swarm-key-file', 'data-dir'] as const
  for (const name of ['certs-dir', ...(args[0] === 'serve' ? serves : [])] as const)
    assert.ok(mounted(settings[name] ?? ''), `--${name} ${settings[name]} is not mounted`)
  const content = volumeMounts.some(({ mountPath }) => mountPath.endsWith('/io.containerd.content.v1.content'))
  assert.equal(content, args[0] === 'serve')
}

/** Whether the scheduler may put a pod on a Linux node with these labels. */
function admits({ affinity, nodeSelector = {} }: Pod, given: Readonly<Record<string, string>>): boolean {
  const labels: Readonly<Record<string, string | undefined>> = { 'kubernetes.io/os': 'linux', ...given }
  const [term] = affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? []
  const keeps = (term?.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
    assert.equal(operator, 'NotIn', 'this test knows no other operator')
    return !values.includes(labels[key] ?? '')
  })
  return keeps && Object.entries(nodeSelector).every(([key, value]) => labels[key] === value)
}
