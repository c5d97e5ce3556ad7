import { mkdirSync, writeFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createCriClient } from '../../doubles/cri.ts'
import { tryRun } from './command.ts'
import { Daemon } from './daemon.ts'
import type { Namespace } from './namespace.ts'
import { byMajor, CONTAINERD } from './version.ts'

/** Everything that one containerd owns. */
export interface ContainerdPaths {
  readonly root: string
  readonly state: string
  readonly socket: string
  /** The directory of hosts.toml directories. */
  readonly certs: string
  readonly config: string
}

export type Snapshotter = 'overlayfs' | 'native'

/** Writes a config.toml for these paths. */
export type ContainerdConfig = (paths: ContainerdPaths, snapshotter: Snapshotter) => string

/** What a configuration may change. */
export interface ConfigChoices {
  /** The version of the file; by default the newest that this containerd reads. */
  readonly file?: 2 | 3
  /** containerd 2 only: CRI itself pulls, not the transfer service. */
  readonly localPull?: boolean
  /** containerd 2.1 and later: the size of the chunks in which several requests fetch a layer at once, in bytes. */
  readonly parallelFetch?: number
}

/** CRI is on, our certs directory counts, and everything is inside the node's own directory. */
export function containerdConfig({
  file = byMajor({ 1: 2, 2: 3 }),
  localPull,
  parallelFetch,
}: ConfigChoices = {}): ContainerdConfig {
  const [images, registry] =
    file === 2
      ? ['io.containerd.grpc.v1.cri".containerd', 'io.containerd.grpc.v1.cri".registry']
      : ['io.containerd.cri.v1.images"', 'io.containerd.cri.v1.images".registry']
  const fetch = parallelFetch === undefined ? '' : `  concurrent_layer_fetch_buffer = ${parallelFetch}\n`
  return (paths, snapshotter) => `version = ${file}
root = ${JSON.stringify(paths.root)}
state = ${JSON.stringify(paths.state)}
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = ${JSON.stringify(paths.socket)}

[plugins."${registry}]
  config_path = ${JSON.stringify(paths.certs)}

[plugins."${images}]
  snapshotter = ${JSON.stringify(snapshotter)}
${localPull === undefined ? '' : `  use_local_image_pull = ${localPull}\n`}${fetch}
${fetch === '' ? '' : `[plugins."io.containerd.transfer.v1.local"]\n${fetch}`}${unpackingBy(snapshotter)}`
}

/** containerd 2's CRI pulls with a snapshotter only if the transfer service has a table for it. */
function unpackingBy(snapshotter: Snapshotter): string {
  if (snapshotter === 'overlayfs' || CONTAINERD.major === 1) return ''
  return `[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/amd64"
  snapshotter = ${JSON.stringify(snapshotter)}
`
}

/** The configuration that a node has unless the test says otherwise. */
export const defaultContainerdConfig: ContainerdConfig = (paths, snapshotter) => containerdConfig()(paths, snapshotter)

/**
 * Makes (and does not start) a containerd whose files are all in `directory`. It is ready when its CRI answers.
 *
 * @param directory short: its socket's path must stay below 108 bytes
 */
export async function createContainerd(
  namespace: Namespace,
  options: {
    /** The node's name. */
    readonly node: string
    readonly directory: string
    readonly logDirectory: string
    readonly snapshotter: Snapshotter
    readonly config?: ContainerdConfig
  },
): Promise<{ daemon: Daemon; paths: ContainerdPaths }> {
  const { directory, logDirectory, snapshotter, config = defaultContainerdConfig } = options
  const paths: ContainerdPaths = {
    root: join(directory, 'root'),
    state: join(directory, 'state'),
    socket: join(directory, 'containerd.sock'),
    certs: join(directory, 'certs.d'),
    config: join(directory, 'config.toml'),
  }
  // Only root reaches the content, as on a real node.
  mkdirSync(paths.root, { recursive: true, mode: 0o700 })
  await mkdir(paths.certs, { recursive: true })
  writeFileSync(paths.config, config(paths, snapshotter))
  const daemon = new Daemon({
    name: 'containerd',
    title: `containerd of ${options.node}`,
    namespace,
    logDirectory,
    command: 'containerd',
    args: () => ['--config', paths.config],
    async ready() {
      const cri = createCriClient(paths.socket)
      try {
        return (await cri.version()).startsWith('containerd ')
      } finally {
        cri.close()
      }
    },
  })
  return { daemon, paths }
}

/** The snapshotter that works below a directory: overlayfs if the file system allows it, else native. */
export async function chooseSnapshotter(directory: string): Promise<Snapshotter> {
  const probe = await mkdtemp(join(directory, 'overlay-'))
  try {
    // A mount namespace of its own saves unmounting.
    const script = 'mkdir l u w m && mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w m'
    const mounted = await tryRun('unshare', ['--mount', 'sh', '-c', `cd "$0" && ${script}`, probe])
    return mounted.code === 0 ? 'overlayfs' : 'native'
  } finally {
    await rm(probe, { recursive: true, force: true })
  }
}
