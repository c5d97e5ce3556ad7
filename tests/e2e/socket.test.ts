/** A pod mounts containerd's socket as a single file: the file that existed when its container started. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import process from 'node:process'
import { test } from 'node:test'
import { Daemon } from './harness/daemon.ts'
import { testCluster } from './harness/index.ts'
import { defaultFlags, logLines } from './harness/mirror.ts'

const MAIN = join(import.meta.dirname, '..', '..', 'main.ts')

const cluster = await testCluster({ nodes: [{ name: 'a', start: ['containerd'] }] })
const a = cluster.node('a')

test('socket: a mirror with a mounted socket file ends when containerd makes a new one, and its next start mounts that', async () => {
  const directory = await a.makeDirectory('mounted')
  const flags = {
    ...defaultFlags(a.network, cluster.swarmKey),
    'containerd-socket': join(directory, 'containerd.sock'),
    'containerd-config': a.paths.config,
    'certs-dir': a.paths.certs,
  }
  // In a mount namespace of its own, like a container.
  const script = 'touch "$1" && mount --bind "$0" "$1" && shift && exec "$@"'
  const mirror = new Daemon({
    name: 'mounted-mirror',
    title: 'the mirror with a mounted socket',
    namespace: a.network,
    logDirectory: directory,
    command: 'sh',
    args: () => [
      ...['-c', script, a.paths.socket, flags['containerd-socket'], process.execPath, MAIN, 'serve'],
      ...Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value ?? '']),
    ],
    ready: (daemon) => logLines(daemon).some(({ event }) => event === 'ready'),
  })
  await mirror.start()
  await a.containerd.restart()
  assert.equal(await mirror.exited, 1)
  assert.match(mirror.output('stderr'), /"event":"stopped"[\s\S]*containerd removed the socket that is mounted here/)
  await mirror.start()
  assert.equal(await mirror.stop(), 0)
})
