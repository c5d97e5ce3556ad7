import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { createZstdDecompress } from 'node:zlib'
import { type Container, environmentOf, type Pod, podOf, renderChart } from './harness/chart.ts'
import { Daemon } from './harness/daemon.ts'
import { type Node, REGISTRY_NAME, requestsFor, testCluster, until } from './harness/index.ts'

const execute = promisify(execFile)
const MAKE = join(import.meta.dirname, '..', '..', 'k8s', 'image', 'make.ts')
const ROOT = join(import.meta.dirname, '..', '..')
const { version, license } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'))

const cluster = await testCluster({
  nodes: [
    { name: 'a', start: ['containerd'] },
    { name: 'b', start: ['containerd'] },
  ],
  registry: true,
  mirrored: [],
})
const [a, b] = [cluster.node('a'), cluster.node('b')]
const dir = await mkdtemp(join(tmpdir(), 'swarmirror-image-test-'))
after(() => rm(dir, { recursive: true, force: true }))

/** The Debian packages that files of the image come from. */
const DEBIAN = ['base-files', 'gcc-14-base', 'libc6', 'libgcc-s1', 'libstdc++6']

interface Descriptor {
  readonly digest: string
  readonly size: number
}

interface Config {
  readonly architecture: string
  readonly created: string
  readonly history?: readonly object[]
  readonly config: Readonly<Record<string, unknown>> & { readonly Labels: Readonly<Record<string, string>> }
}

/** An image in an unpacked OCI layout. */
interface Made {
  /** Of the index. */
  readonly digest: string
  readonly layer: Descriptor
  readonly config: Config
  readonly blob: (digest: string) => string
}

async function make(output: string, ...args: string[]): Promise<Made> {
  await execute(process.execPath, [MAKE, '--level', '3', '--output', output, ...args], { cwd: ROOT })
  const layout = join(output, 'layout')
  await execute('sh', ['-c', 'mkdir "$1" && tar -xf "$0" -C "$1"', join(output, 'swarmirror.tar'), layout])
  const blob = (digest: string) => join(layout, 'blobs', 'sha256', digest.replace('sha256:', ''))
  const read = async (file: string) => JSON.parse(await readFile(file, 'utf8'))
  const top = await read(join(layout, 'index.json'))
  const index = await read(blob(top.manifests[0].digest))
  const manifest = await read(blob(index.manifests[0].digest))
  return {
    digest: top.manifests[0].digest,
    layer: manifest.layers[0],
    config: await read(blob(manifest.config.digest)),
    blob,
  }
}

describe('image', () => {
  const first = join(dir, 'first')
  let made: Made

  before(async () => {
    made = await make(first)
  })

  test('image: two builds make the same digest and the same file', async () => {
    const second = join(dir, 'second')
    const again = await make(second, '--debs', join(first, 'debs'))
    assert.equal(again.digest, made.digest)
    assert.deepEqual(made.config.history ?? [], [], 'the history holds a hash over files and owners')
    const [one, other] = await Promise.all(
      [first, second].map((output) => execute('sha256sum', [join(output, 'swarmirror.tar')])),
    )
    assert.equal(one?.stdout.split(' ')[0], other?.stdout.split(' ')[0])
  })

  test('image: holds only what the mirror needs, licenses and what scanners read, all of it read-only', async () => {
    const listing = execFile('tar', ['--list', '--verbose', '--numeric-owner'])
    assert.ok(listing.stdin && listing.stdout)
    createReadStream(made.blob(made.layer.digest)).pipe(createZstdDecompress()).pipe(listing.stdin)
    const lines = (await buffer(listing.stdout)).toString().trim().split('\n')
    const files = lines.filter((line) => !line.startsWith('d')).map((line) => line.split(/ +/).at(-1) ?? '')
    assert.deepEqual(files.filter((file) => !/^(usr\/lib\/|lib(64)?\/ld-linux)/.test(file)).sort(), [
      'etc/nsswitch.conf',
      'opt/swarmirror/sodium-native.node',
      'opt/swarmirror/swarmirror',
      ...['GPL-2', 'GPL-3', 'LGPL-2', 'LGPL-2.1', 'LGPL-3'].map((name) => `usr/share/common-licenses/${name}`),
      'usr/share/doc/gcc-14-base/copyright',
      'usr/share/doc/libc6/copyright',
      'usr/share/doc/swarmirror/LICENSE',
      'usr/share/doc/swarmirror/THIRD-PARTY-NOTICES',
      'usr/share/swarmirror/sbom.spdx.json',
      ...DEBIAN.map((name) => `var/lib/dpkg/status.d/${name}`),
    ])
    assert.deepEqual(
      files
        .filter((file) => !/^(usr\/share|etc|var)\//.test(file))
        .map((file) => file.replace(/.*\//, ''))
        .sort(),
      [
        ...(made.config.architecture === 'amd64' ? ['ld-linux-x86-64.so.2'] : ['ld-linux-aarch64.so.1']),
        ...['libc.so.6', 'libdl.so.2', 'libgcc_s.so.1', 'libm.so.6', 'libpthread.so.0', 'libstdc++.so.6'],
        ...['os-release', 'sodium-native.node', 'swarmirror'],
      ].sort(),
    )
    // Type and mode, owner and group.
    assert.deepEqual(
      lines.filter((line) => !/^[d-]r-[x-]r-[x-]r-[x-] 0\/0 /.test(line)),
      [],
    )
  })

  test('image: is labelled, and has its SBOM inside and beside it', async () => {
    const labels = made.config.config.Labels
    assert.equal(labels['org.opencontainers.image.version'], version)
    assert.equal(labels['org.opencontainers.image.licenses'], license)
    assert.match(labels['org.opencontainers.image.revision'] ?? '', /^[0-9a-f]{40}$/)
    assert.equal(labels['org.opencontainers.image.created'], made.config.created)
    const [file = ''] = (await readdir(first)).filter((name) => name.endsWith('.spdx.json'))
    const sbom = JSON.parse(await readFile(join(first, file), 'utf8'))
    const names: string[] = sbom.packages.map(({ name }: { name: string }) => name)
    const wanted = ['swarmirror', 'hyperswarm', 'sodium-native', 'libsodium', '@bufbuild/protobuf', 'hono', ...DEBIAN]
    assert.deepEqual(
      wanted.filter((name) => !names.includes(name)),
      [],
      'in the image, and not in the SBOM',
    )
    assert.ok(
      names.some((name) => name.startsWith('@oven/bun-linux-')),
      'Bun is not in the SBOM',
    )
    // Our own UDX replaces udx-native; bare-fs serves other runtimes.
    const absent = ['deno', 'typescript', 'fast-check', 'udx-native', 'bare-fs', 'npm']
    assert.deepEqual(
      names.filter((name) => absent.includes(name)),
      [],
      'in the SBOM, and not in the image',
    )
    assert.doesNotMatch(JSON.stringify(sbom.creationInfo), /npm/, 'the digest must not depend on the version of npm')
    assert.equal(new Set(sbom.packages.map(({ SPDXID }: { SPDXID: string }) => SPDXID)).size, sbom.packages.length)
    assert.equal(labels['swarmirror.sbom'], '/usr/share/swarmirror/sbom.spdx.json')
  })

  test('image: mirrors run in containers of real containerd, and one pulls an image from the other', async () => {
    const names = { 'swarmirror.swarmirror.svc': cluster.nodes.map(({ address }) => address) }
    const server = cluster.registry.url
    const files = new Map<Node, Record<string, string>>()
    const containers = new Map<Node, Containers>()
    const mirrors: Daemon[] = []
    for (const node of cluster.nodes) {
      await node.network.setNames(names)
      await mountControlGroups(node)
      await node.ctr('images', 'import', '--snapshotter', 'native', join(first, 'swarmirror.tar'))
      await node.writeHosts(REGISTRY_NAME, { server, hosts: [{ url: server }] })
      const container = await containersOf(node)
      containers.set(node, container)
      files.set(node, await certsOf(node))
      await node.exec('ctr', container.hosts)
      assert.match((await certsOf(node))[`${REGISTRY_NAME}/hosts.toml`] ?? '', /\[host\."http:\/\/127\.0\.0\.1:5000"\]/)
      mirrors.push(await mirrorOf(node, container.serve))
    }
    for (const mirror of mirrors) mirror.spawn()
    for (const [index, node] of cluster.nodes.entries()) {
      await until(`the mirror of ${node.name} to be ready`, () => {
        assert.ok(mirrors[index]?.running, `ended: ${mirrors[index]?.output('stderr')}`)
        return node.isReady()
      })
    }
    for (const node of cluster.nodes) await assertConfined(node)
    for (const node of cluster.nodes) {
      // As `kubectl exec` does it, beside the running mirror.
      const inside = ['tasks', 'exec', '--exec-id', 'check', idOf('serve', node)]
      assert.match(await node.ctr(...inside, 'swarmirror', 'check'), /^ok +probe-mirror-asked: .*^passed: /ms)
    }

    const image = await cluster.registry.push(
      await cluster.makeImage({ seed: 'image', layers: [3 << 20, 1 << 20] }),
      'team/from-container:v1',
    )
    await a.pull(image.reference)
    await b.untilOffered(image)
    const asked = await cluster.registry.requestsDuring(() => b.pull(image.reference))
    assert.deepEqual(requestsFor(image.digests, asked), [])
    assert.deepEqual(await b.wrongFiles(image.reference, image), [])
    for (const mirror of mirrors) assert.equal(await mirror.stop(), 0)
    for (const node of cluster.nodes) {
      await node.exec('ctr', containers.get(node)?.remove ?? [])
      assert.deepEqual(await certsOf(node), files.get(node), 'the node must be as it was before')
    }
  })
})

/** The arguments of `ctr` for each of the chart's containers. */
type Containers = Readonly<Record<'hosts' | 'serve' | 'remove', string[]>>

/** The containers as the chart defines them: environment, mounts, root, capabilities and seccomp profile. */
async function containersOf(node: Node): Promise<Containers> {
  const { socket, config, certs, root } = node.paths
  const { pod, uninstall } = await renderChart({
    paths: { socket, config, certs, content: join(root, 'io.containerd.content.v1.content') },
    // All nodes share two cores here.
    settings: { 'lookup-timeout': '2s' },
  })
  const directory = await node.makeDirectory('container')
  await writeFile(join(directory, 'swarm.key'), cluster.swarmKey, { mode: 0o400 })
  const data = await node.makeDirectory('data')
  const sourceOf = (name: string, { volumes = [] }: Pod) => {
    const volume = volumes.find((volume) => volume.name === name)
    if (volume?.secret !== undefined) return directory
    return volume?.emptyDir === undefined ? (volume?.hostPath?.path ?? assert.fail(`no volume ${name}`)) : data
  }
  const argumentsFor = (name: string, found: Container | undefined, pod: Pod): string[] => {
    const container = found ?? assert.fail(`no container ${name}`)
    const { image = '', args = [], securityContext, volumeMounts = [] } = container
    assert.deepEqual(securityContext?.capabilities, { drop: ['ALL'] })
    assert.equal(pod.securityContext?.seccompProfile?.type, 'RuntimeDefault')
    // A directory comes before mounts below it, as containerd's CRI sorts them.
    const mounts = [...volumeMounts].sort((a, b) => a.mountPath.length - b.mountPath.length)
    return [
      ...['--address', socket, '--namespace', 'k8s.io', 'run', '--rm', '--snapshotter', 'native'],
      ...['--seccomp', ...(pod.hostNetwork ? ['--net-host'] : [])],
      ...(securityContext.readOnlyRootFilesystem ? ['--read-only'] : []),
      ...DEFAULT_CAPABILITIES.flatMap((capability) => ['--cap-drop', capability]),
      ...Object.entries(environmentOf(container, node.address)).flatMap(([name, value]) => [
        '--env',
        `${name}=${value}`,
      ]),
      ...mounts.flatMap(({ name, mountPath, readOnly }) => [
        '--mount',
        `type=bind,src=${sourceOf(name, pod)},dst=${mountPath},options=rbind:${readOnly ? 'ro' : 'rw'}`,
      ]),
      // A control group of its own at the top, which goes away with the container; the parent of the default one stays.
      ...['--cgroup', `/${idOf(name, node)}`, image, idOf(name, node)],
      // When ctr gets arguments, it also replaces the image's entry point.
      ...['/opt/swarmirror/swarmirror', ...args],
    ]
  }
  const removing = podOf(uninstall)
  return {
    hosts: argumentsFor('hosts', pod.initContainers?.[0], pod),
    serve: argumentsFor('serve', pod.containers[0], pod),
    remove: argumentsFor('remove', removing.initContainers?.[0], removing),
  }
}

/** Names this node and this run: all containerds of a machine share runc's state, which keeps what a failed run leaves. */
function idOf(name: string, node: Node): string {
  return `swarmirror-${name}-${node.name}-${process.pid}`
}

async function mirrorOf(node: Node, args: readonly string[]): Promise<Daemon> {
  return new Daemon({
    name: 'mirror-container',
    title: `the mirror's container on ${node.name}`,
    namespace: node.network,
    logDirectory: await node.makeDirectory('container-logs'),
    command: 'ctr',
    args: () => args,
    ready: () => node.isReady(),
  })
}

/** Every file below the directory of hosts.toml files, by relative path. */
async function certsOf(node: Node): Promise<Record<string, string>> {
  const entries = await readdir(node.paths.certs, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  const read = files.map(async (file) => [relative(node.paths.certs, file), await readFile(file, 'utf8')])
  return Object.fromEntries(await Promise.all(read))
}

/** `ip netns exec` gives containerd its own /sys. This mounts the control groups there that runc needs, as they are here. */
async function mountControlGroups(node: Node): Promise<void> {
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').flatMap((line) => {
    const [before = '', after = ''] = line.split(' - ')
    const point = before.split(' ')[4] ?? ''
    const [type = '', , options = ''] = after.split(' ')
    return /^\/sys\/fs\/cgroup(\/|$)/.test(point) ? [{ point, type, options }] : []
  })
  assert.ok(mounts.length > 0, 'this machine has no control groups at /sys/fs/cgroup: no container can run')
  const enter = ['--mount', '--target', String(node.containerd.pid)]
  for (const { point, type, options } of mounts) {
    await execute('nsenter', [...enter, 'mkdir', '-p', point])
    await execute('nsenter', [...enter, 'mount', '-t', type, '-o', options, type, point])
  }
}

/** The capabilities that ctr gives a container by default. */
const DEFAULT_CAPABILITIES = [
  ...['CHOWN', 'DAC_OVERRIDE', 'FSETID', 'FOWNER', 'MKNOD', 'NET_RAW', 'SETGID', 'SETUID', 'SETFCAP', 'SETPCAP'],
  ...['NET_BIND_SERVICE', 'SYS_CHROOT', 'KILL', 'AUDIT_WRITE'],
].map((name) => `CAP_${name}`)

/** Asserts that the mirror's process has a root that it cannot write, no capability and a seccomp filter. */
async function assertConfined(node: Node): Promise<void> {
  const listed = await node.ctr('tasks', 'list')
  const pid = /^swarmirror-serve-\S+\s+(\d+)\s+RUNNING/m.exec(listed)?.[1]
  assert.ok(pid, listed)
  const root = (await readFile(`/proc/${pid}/mountinfo`, 'utf8')).split('\n').find((line) => line.split(' ')[4] === '/')
  assert.match(root?.split(' ')[5] ?? '', /^ro\b/)
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
    assert.match(status, new RegExp(`^${set}:\\s+0+$`, 'm'))
  assert.match(status, /^NoNewPrivs:\s+1$/m)
  assert.match(status, /^Seccomp:\s+2$/m)
}
