import { mkdirSync, writeFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createCriClient } from '../../doubles/cri.ts'
import { tryRun } from './command.ts'
import { Daemon } from './daemon.ts'
import type { Namespace } from './namespace.ts'

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

/**
 * The configuration that a node has unless the test says otherwise: CRI on, our certs directory effective, nothing outside
 * of the node's own directory.
 */
export const defaultContainerdConfig: ContainerdConfig = (paths, snapshotter) => `version = 2
root = ${JSON.stringify(paths.root)}
state = ${JSON.stringify(paths.state)}
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = ${JSON.stringify(paths.socket)}

[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = ${JSON.stringify(paths.certs)}

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = ${JSON.stringify(snapshotter)}
`

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
  // As on a real node, only root reaches the content.
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

/** The snapshotter that works below a directory: overlayfs where the file system allows it, else native. */
export async function chooseSnapshotter(directory: string): Promise<Snapshotter> {
  const probe = await mkdtemp(join(directory, 'overlay-'))
  try {
    // In a mount namespace of its own, so that nothing has to be unmounted.
    const script = 'mkdir l u w m && mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w m'
    const mounted = await tryRun('unshare', ['--mount', 'sh', '-c', `cd "$0" && ${script}`, probe])
    return mounted.code === 0 ? 'overlayfs' : 'native'
  } finally {
    await rm(probe, { recursive: true, force: true })
  }
}
