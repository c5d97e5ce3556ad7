import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Key } from '../../../lib/oci/key.ts'
import { runSync } from './command.ts'
import { type ContainerdConfig, type ContainerdPaths, chooseSnapshotter } from './containerd.ts'
import type { Daemon } from './daemon.ts'
import { type Image, type ImageOptions, makeImage } from './image.ts'
import { basicLock, bearerLock, type Lock } from './lock.ts'
import { lookup } from './lookup.ts'
import {
  defaultFlags,
  defaultRuntime,
  type MirrorFlags,
  PEER_PORT,
  peerAddress,
  REGISTRY_DOOR,
  type Runtime,
} from './mirror.ts'
import type { Namespace } from './namespace.ts'
import { createNetwork } from './network.ts'
import { createNode, type Node } from './node.ts'
import { REGISTRY_NAME, Registry } from './registry.ts'
import { createRun, type Run, sweep } from './run.ts'

/** The commands that the harness runs, all from Debian. */
const TOOLS = [
  'ip',
  'nft',
  'tcpdump',
  'tc',
  'containerd',
  'ctr',
  'runc',
  'docker-registry',
  'skopeo',
  'curl',
  'unshare',
  'setpriv',
  'umount',
]

/** How many of a log's last lines a failed test shows. */
const SHOWN_LINES = 60

export interface NodeOptions {
  /** 1 to 12 lower-case letters and digits. */
  readonly name: string
  /** The mirror's runtime; by default the one that the environment variable E2E_RUNTIME names, or Node. */
  readonly runtime?: Runtime
  /** What starts with the cluster; both by default. The test can start the rest later. */
  readonly start?: readonly ('containerd' | 'mirror')[]
  /** Flags of the mirror, which override those of the harness. */
  readonly flags?: MirrorFlags
  /** Writes the config.toml instead of the harness. */
  readonly containerdConfig?: ContainerdConfig
}

/** How a registry asks for a secret. */
export type LockKind = 'basic' | 'bearer'

export interface ClusterOptions {
  /** A name alone means a node with all defaults. */
  readonly nodes: readonly (string | NodeOptions)[]
  /** Whether there is an upstream registry. */
  readonly registry?: boolean
  /** Upstream registries that want a secret by HTTP Basic or by a token: `basic.test` and `bearer.test`. */
  readonly locked?: readonly LockKind[]
  /** The registries whose hosts.toml points to the mirror first and to the upstream registry second. */
  readonly mirrored?: readonly string[]
}

/** Sizes of log files, in bytes. */
export type LogMarks = ReadonlyMap<string, number>

/** Nodes, and an upstream registry, on one bridge. */
export class Cluster {
  readonly nodes: readonly Node[]
  /** In hex. */
  readonly swarmKey: string
  readonly #registry: Registry | undefined
  readonly #locked: readonly Registry[]
  readonly #run: Run
  #images = 0

  constructor(
    run: Run,
    swarmKey: string,
    nodes: readonly Node[],
    registries: { readonly open: Registry | undefined; readonly locked: readonly Registry[] },
  ) {
    this.#run = run
    this.swarmKey = swarmKey
    this.nodes = nodes
    this.#registry = registries.open
    this.#locked = registries.locked
  }

  /** @throws {Error} when there is no node of that name */
  node(name: string): Node {
    const node = this.nodes.find((node) => node.name === name)
    if (node === undefined) throw new Error(`no node ${name} in this cluster`)
    return node
  }

  /** @throws {Error} when the cluster was made without one */
  get registry(): Registry {
    if (this.#registry === undefined) throw new Error('this cluster has no registry')
    return this.#registry
  }

  /** @throws {Error} when the cluster was made without one */
  locked(kind: LockKind): Registry & { readonly lock: Lock } {
    const registry = this.#locked.find(({ name }) => name === nameOf(kind))
    if (registry?.lock === undefined) throw new Error(`this cluster has no registry with ${kind}`)
    return registry as Registry & { readonly lock: Lock }
  }

  /** Asks the DHT, from a node's network, which nodes announce the keys. Returns their names by key. */
  async announcers(keys: readonly Key[]): Promise<Record<Key, string[]>> {
    const [from] = this.nodes
    if (from === undefined) throw new Error('no node to ask from')
    const doors = new Map(this.nodes.map(({ name, network }) => [peerAddress(network), name]))
    // The lookup would wait for each node that does not answer.
    const running = this.nodes.filter(({ mirror }) => mirror.running)
    const nodes = running.map(({ address }) => ({ host: address, port: PEER_PORT }))
    const found = await lookup(from.network, { swarmKey: this.swarmKey, nodes, keys })
    return Object.fromEntries(
      Object.entries(found).map(([key, addresses]) => [key, addresses.map((address) => doors.get(address) ?? address)]),
    )
  }

  /** Makes an image in the cluster's directory. */
  makeImage(options: ImageOptions): Promise<Image> {
    this.#images += 1
    return makeImage(join(this.#run.directory, `image-${this.#images}`), options)
  }

  /** Remembers where the logs end now, for {@link logs}. */
  markLogs(): LogMarks {
    return new Map(this.#daemons().flatMap((daemon) => daemon.logFiles.map((file) => [file, readOrEmpty(file).length])))
  }

  /** The last lines of every daemon's logs (since the marks), for somebody who looks into a failure. */
  logs(since: LogMarks = new Map()): string {
    const described = this.#daemons().flatMap((daemon) => daemon.logFiles.map((file) => [daemon.title, file] as const))
    return described.map(([title, file]) => lastLines(title, file, since.get(file) ?? 0)).join('')
  }

  #daemons(): Daemon[] {
    const daemons = this.nodes.flatMap(({ mirror, containerd }) => [mirror, containerd])
    const registries = [...(this.#registry === undefined ? [] : [this.#registry]), ...this.#locked]
    return [...daemons, ...registries.flatMap(daemonsOf)]
  }

  /** Ends everything and removes every trace: processes, namespaces, links, files. */
  async close(): Promise<void> {
    for (const node of this.nodes) node.close()
    this.#run.destroy()
  }
}

/**
 * Makes a cluster and waits until everything in it is ready. First removes what an earlier, killed test process left.
 *
 * @throws {Error} when not root, when a tool is missing, or when a part does not become ready; it then leaves nothing behind
 */
export async function createCluster(options: ClusterOptions): Promise<Cluster> {
  assertPossible()
  sweep()
  const run = createRun()
  try {
    return await build(run, options)
  } catch (error) {
    run.destroy()
    throw error
  }
}

async function build(
  run: Run,
  { nodes, registry = false, locked = [], mirrored = [REGISTRY_NAME] }: ClusterOptions,
): Promise<Cluster> {
  const network = await createNetwork(run)
  const snapshotter = await chooseSnapshotter(run.directory)
  const upstream = registry ? await createUpstream(run, await network.add('registry')) : undefined
  const guarded: Registry[] = []
  for (const kind of locked) guarded.push(await createUpstream(run, await network.add(kind), kind))
  const swarmKey = randomBytes(32).toString('hex')
  const wanted = nodes.map((node) => (typeof node === 'string' ? { name: node } : node))
  const hosts: { options: NodeOptions; namespace: Awaited<ReturnType<typeof network.add>> }[] = []
  for (const options of wanted) hosts.push({ options, namespace: await network.add(options.name) })
  const bootstrap = hosts.map(({ namespace }) => peerAddress(namespace)).join(',')

  const created = await Promise.all(
    hosts.map(({ options, namespace }) =>
      createNode(namespace, {
        name: options.name,
        directory: join(run.directory, options.name),
        runtime: options.runtime ?? defaultRuntime(),
        snapshotter,
        ...(options.containerdConfig === undefined ? {} : { containerdConfig: options.containerdConfig }),
        flags: (paths: ContainerdPaths) => ({
          ...defaultFlags(namespace, swarmKey),
          bootstrap,
          store: 'containerd',
          'containerd-socket': paths.socket,
          'containerd-config': paths.config,
          'certs-dir': paths.certs,
          ...options.flags,
        }),
      }),
    ),
  )
  const server = upstream?.url
  for (const node of created) {
    // A mirror does not start if containerd would not ask it.
    await node.writeHosts('_default', { hosts: [{ url: REGISTRY_DOOR }] })
    for (const { name, url } of guarded) await node.writeHosts(name, { server: url, hosts: [{ url: REGISTRY_DOOR }] })
    if (server === undefined) continue
    for (const name of mirrored) await node.writeHosts(name, { server, hosts: [{ url: REGISTRY_DOOR }] })
  }
  const starting = (part: 'containerd' | 'mirror') =>
    created.filter((_, index) => wanted[index]?.start?.includes(part) ?? true).map((node) => node[part].start())
  const registries = [...(upstream === undefined ? [] : [upstream]), ...guarded]
  await Promise.all([...registries.flatMap(daemonsOf).map((daemon) => daemon.start()), ...starting('containerd')])
  await Promise.all(starting('mirror'))
  return new Cluster(run, swarmKey, created, { open: upstream, locked: guarded })
}

async function createUpstream(run: Run, namespace: Namespace, kind?: LockKind): Promise<Registry> {
  const directory = join(run.directory, kind ?? 'registry')
  await mkdir(directory)
  if (kind === undefined) return new Registry(namespace, { directory })
  const lock = kind === 'basic' ? basicLock(directory) : bearerLock(namespace, directory)
  return new Registry(namespace, { directory, name: nameOf(kind), lock })
}

function nameOf(kind: LockKind): string {
  return `${kind}.test`
}

/** What a registry consists of. */
function daemonsOf({ daemon, lock }: Registry): Daemon[] {
  return lock?.daemon === undefined ? [daemon] : [daemon, lock.daemon]
}

function assertPossible(): void {
  if (process.getuid?.() !== 0) throw new Error('the end-to-end harness makes network namespaces: it needs root')
  const missing = TOOLS.filter((tool) => !runSync('sh', ['-c', 'command -v "$0"', tool]).ok)
  if (missing.length > 0)
    throw new Error(`the end-to-end harness needs these commands, which are missing: ${missing.join(', ')}`)
}

function lastLines(title: string, file: string, start: number): string {
  const lines = readOrEmpty(file).subarray(start).toString().split('\n').filter(Boolean)
  const shown = lines.slice(-SHOWN_LINES)
  return shown.length === 0 ? '' : `--- ${title}, last ${shown.length} of ${lines.length} lines\n${shown.join('\n')}\n`
}

/** A daemon that was never started has no log. */
function readOrEmpty(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return Buffer.alloc(0)
    throw error
  }
}
