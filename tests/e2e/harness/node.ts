import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type Digest, hexOf } from '../../../lib/oci/digest.ts'
import { type CriClient, type CriImage, createCriClient, type PullOptions } from '../../doubles/cri.ts'
import type { CommandResult } from './command.ts'
import { type ContainerdConfig, type ContainerdPaths, createContainerd, type Snapshotter } from './containerd.ts'
import { type CurlOptions, type CurlResult, conditionalStatuses, type RunningCurl, startCurl } from './curl.ts'
import type { Daemon } from './daemon.ts'
import { type Hosts, removeHosts, writeHosts } from './hosts.ts'
import type { Image } from './image.ts'
import { ADMIN_DOOR, createMirror, type MirrorFlags, REGISTRY_DOOR, type Runtime } from './mirror.ts'
import type { Namespace } from './namespace.ts'
import { manifestPath, type PushedImage, pathsOf } from './registry.ts'
import { until } from './wait.ts'

/** The containerd namespace of CRI and of all tools here. */
const NAMESPACE = 'k8s.io'

export interface NodeDependencies {
  readonly name: string
  readonly network: Namespace
  readonly containerd: Daemon
  readonly paths: ContainerdPaths
  readonly mirror: Daemon
  readonly runtime: Runtime
  readonly directory: string
  readonly snapshotter: Snapshotter
}

/** A node of a cluster: a network namespace with a containerd and a mirror, and the tools that a person would use. */
export class Node {
  readonly name: string
  readonly network: Namespace
  readonly containerd: Daemon
  readonly mirror: Daemon
  readonly runtime: Runtime
  readonly paths: ContainerdPaths
  readonly cri: CriClient
  readonly #directory: string
  readonly #snapshotter: Snapshotter

  constructor(dependencies: NodeDependencies) {
    this.name = dependencies.name
    this.network = dependencies.network
    this.containerd = dependencies.containerd
    this.mirror = dependencies.mirror
    this.runtime = dependencies.runtime
    this.paths = dependencies.paths
    this.cri = createCriClient(dependencies.paths.socket)
    this.#directory = dependencies.directory
    this.#snapshotter = dependencies.snapshotter
  }

  /** Its address on the bridge. */
  get address(): string {
    return this.network.address
  }

  /** Pulls as the kubelet does: CRI PullImage. Returns the image's id. */
  pull(reference: string, options?: PullOptions): Promise<string> {
    return this.cri.pullImage(reference, options)
  }

  /** Pulls as a person does: `ctr images pull --hosts-dir`. */
  async ctrPull(reference: string): Promise<void> {
    const options = ['--hosts-dir', this.paths.certs, '--snapshotter', this.#snapshotter]
    await this.ctr('images', 'pull', ...options, reference)
  }

  /** Runs `ctr` against this node's containerd, and returns its standard output. */
  ctr(...args: string[]): Promise<string> {
    return this.exec('ctr', ['--address', this.paths.socket, '--namespace', NAMESPACE, ...args])
  }

  images(): Promise<CriImage[]> {
    return this.cri.listImages()
  }

  /** Removes the image as the kubelet does: with all its names, and the content that no other image needs. */
  async removeImage(reference: string): Promise<void> {
    await this.cri.removeImage(reference)
  }

  /** The digests in containerd's content store. */
  async content(): Promise<Digest[]> {
    const listed = await this.ctr('content', 'list', '--quiet')
    return listed.split('\n').filter(Boolean) as Digest[]
  }

  /** The file of a blob in containerd's content store. */
  contentFile(digest: Digest): string {
    return join(this.paths.root, 'io.containerd.content.v1.content', 'blobs', 'sha256', hexOf(digest))
  }

  /** How many bytes of a blob containerd has received in a running download; 0 if there is none. */
  async ingested(digest: Digest): Promise<number> {
    const ingests = join(this.paths.root, 'io.containerd.content.v1.content', 'ingest')
    for (const name of await readdir(ingests)) {
      const reference = await unlessGone(readFile(join(ingests, name, 'ref'), 'utf8'))
      if (reference?.endsWith(digest)) return (await unlessGone(stat(join(ingests, name, 'data'))))?.size ?? 0
    }
    return 0
  }

  /**
   * Mounts the image's unpacked layers, and hashes the files there.
   *
   * @returns the files of the layers whose content differs from what the image was made of; empty if all are right
   */
  async wrongFiles(reference: string, image: Image): Promise<string[]> {
    const mountPoint = join(
      this.#directory,
      `mount-${createHash('sha256').update(reference).digest('hex').slice(0, 8)}`,
    )
    await mkdir(mountPoint, { recursive: true })
    const files = image.own.layers.flatMap(({ files }) => files)
    // In the mount namespace that `ip netns exec` makes: the mount goes with the shell.
    const script = [
      'set -e',
      'ctr --address "$1" --namespace "$2" images mount --snapshotter "$3" "$4" "$5" >&2',
      'cd "$5" && sha256sum --check --quiet - || true',
      'cd / && umount "$5"',
      'ctr --address "$1" --namespace "$2" snapshots --snapshotter "$3" remove "$5"',
    ].join('\n')
    const input = files.map(({ path, sha256 }) => `${sha256}  ${path}\n`).join('')
    const values = [this.paths.socket, NAMESPACE, this.#snapshotter, reference, mountPoint]
    const checked = await this.exec('sh', ['-c', script, 'sh', ...values], { input })
    return checked.split('\n').filter(Boolean)
  }

  /** Asks the registry door. */
  curl(path: string, options?: CurlOptions): Promise<CurlResult> {
    return this.startCurl(path, options).result
  }

  /** Asks the registry door, and lets the test watch while the answer arrives. */
  startCurl(path: string, options?: CurlOptions): RunningCurl {
    return startCurl(this.network, this.#directory, `${REGISTRY_DOOR}${path}`, options)
  }

  /** The registry door's answers for every digest that a pull of the image needs: 304 for available content. */
  statuses(image: PushedImage): Promise<number[]> {
    return conditionalStatuses(
      this.network,
      pathsOf(image).map((path) => `${REGISTRY_DOOR}${path}`),
    )
  }

  /** Waits until the registry door offers all content of the image. */
  async untilOffered(image: PushedImage): Promise<void> {
    const offered = async () => (await this.statuses(image)).every((status) => status === 304)
    await until(`${image.reference} to be offered at the door of ${this.name}`, offered)
  }

  /** Waits until the mirror resolves the image's tag, because it has noticed that upstream is down. */
  async untilResolved({ reference, ...image }: PushedImage): Promise<void> {
    const path = manifestPath({ ...image, reference }, image.tag)
    const resolved = async () => (await this.curl(path, { method: 'HEAD' })).status === 200
    await until(`${reference} to be resolved at the door of ${this.name}`, resolved)
  }

  /** Waits until the registry door offers no content of the image. */
  async untilGone(image: PushedImage, options?: { timeoutMs: number }): Promise<void> {
    const gone = async () => (await this.statuses(image)).every((status) => status === 404)
    await until(`${image.reference} to be gone from the door of ${this.name}`, gone, options)
  }

  /** Asks the admin door. */
  admin(path: string, options?: CurlOptions): Promise<CurlResult> {
    return startCurl(this.network, this.#directory, `${ADMIN_DOOR}${path}`, options).result
  }

  /** Whether the mirror says that it is ready. */
  async isReady(): Promise<boolean> {
    return (await this.admin('/readyz')).status === 200
  }

  /** Runs a command in the node's network that must succeed, and returns its standard output. */
  exec(command: string, args: readonly string[], options?: Parameters<Namespace['exec']>[2]): Promise<string> {
    return this.network.exec(command, args, options)
  }

  /** Runs a command in the node's network, whatever its exit code. */
  tryExec(command: string, args: readonly string[]): Promise<CommandResult> {
    return this.network.tryExec(command, args)
  }

  /** Makes an empty directory among the node's files. */
  async makeDirectory(name: string): Promise<string> {
    const path = join(this.#directory, name)
    await mkdir(path)
    return path
  }

  /** Sets where this node's containerd asks for a registry. */
  writeHosts(registry: string, hosts: Hosts): Promise<void> {
    return writeHosts(this.paths.certs, registry, hosts)
  }

  /** Ends {@link writeHosts}. */
  removeHosts(registry: string): Promise<void> {
    return removeHosts(this.paths.certs, registry)
  }

  /** Ends what this object holds; the daemons end with the cluster. */
  close(): void {
    this.cri.close()
  }
}

/** A download may end while we look at its files. */
async function unlessGone<T>(looked: Promise<T>): Promise<T | undefined> {
  try {
    return await looked
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Makes a node in a namespace, and starts nothing. */
export async function createNode(
  network: Namespace,
  options: {
    readonly name: string
    readonly directory: string
    readonly runtime: Runtime
    readonly snapshotter: Snapshotter
    readonly containerdConfig?: ContainerdConfig
    /** Asked for at every start of the mirror. */
    readonly flags: (paths: ContainerdPaths) => MirrorFlags
  },
): Promise<Node> {
  const { name, directory, runtime, snapshotter, containerdConfig, flags } = options
  await mkdir(directory, { recursive: true, mode: 0o711 })
  const { daemon, paths } = await createContainerd(network, {
    node: name,
    directory,
    logDirectory: directory,
    snapshotter,
    ...(containerdConfig === undefined ? {} : { config: containerdConfig }),
  })
  const mirror = createMirror(network, { node: name, logDirectory: directory, runtime, flags: () => flags(paths) })
  return new Node({ name, network, containerd: daemon, paths, mirror, runtime, directory, snapshotter })
}
