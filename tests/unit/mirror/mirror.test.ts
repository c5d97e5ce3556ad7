import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { startMirror } from '../../../lib/mirror/mirror.ts'
import { withTemporaryDirectory } from '../../fixtures/image.ts'
import { createLogRecorder } from '../../fixtures/log.ts'
import { LOOPBACK, withImageLayout } from '../../fixtures/mirror.ts'
import { readSettings } from '../../fixtures/settings.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

function settingsOf(layout: string, flags: readonly string[]) {
  return readSettings({ flags: ['--store', `oci-layout:${layout}`, ...flags], environment: {} })
}

/** Binds a TCP port on loopback; rejects if it is taken. */
async function occupy(port: number): Promise<Server> {
  const server = createServer()
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  return server
}

const portOf = (server: Server) => (server.address() as AddressInfo).port

async function release(server: Server): Promise<void> {
  await new Promise((resolve) => server.close(resolve))
}

/** Rejects if the door is still open, for the peer door also over UDP. */
async function assertFree(port: number, udp = false): Promise<void> {
  await release(await occupy(port))
  if (!udp) return
  const socket = createSocket('udp4')
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(port, '127.0.0.1', resolve)
  })
  await new Promise<void>((resolve) => socket.close(resolve))
}

test('startMirror says by its readiness when it is ready, and leaves no port open when it is closed', async () => {
  await withImageLayout(async (layout) => {
    const { log, lines } = createLogRecorder()
    const mirror = await startMirror(settingsOf(layout, LOOPBACK), log)
    const seen: string[][] = []
    const unfollow = mirror.readiness.onChange(() => seen.push([...mirror.readiness.reasons]))
    await waitFor('the mirror is ready', () => mirror.readiness.reasons.length === 0)
    const closing = mirror.close()
    assert.equal(mirror.close(), closing, 'closed once')
    await within('the end', closing)
    unfollow()
    assert.deepEqual(seen.at(-1), ['stopping'])
    assert.deepEqual(
      lines.slice(-3).map(({ event }) => event),
      ['stopping', 'drained', 'stopped'],
    )
    await assertFree(mirror.registry.port)
    await assertFree(mirror.peer.port, true)
    await assertFree(mirror.admin.port)
  })
})

test('startMirror closes everything that it has opened if a later door fails to open', async () => {
  await withImageLayout(async (layout) => {
    const { log } = createLogRecorder()
    // The earlier doors get known ports, so that the test can check them afterwards.
    const servers = [await occupy(0), await occupy(0), await occupy(0)] as const
    const [registry, peer, metrics] = [portOf(servers[0]), portOf(servers[1]), portOf(servers[2])]
    for (const server of servers.slice(0, 2)) await release(server)
    const flags = [`--listen=127.0.0.1:${registry}`, `--peer-listen=127.0.0.1:${peer}`]
    const doors = [...flags, '--admin-listen=127.0.0.1:0', `--metrics-listen=127.0.0.1:${metrics}`]
    await assert.rejects(startMirror(settingsOf(layout, doors), log), {
      name: 'ConfigurationError',
      message: `--metrics-listen 127.0.0.1:${metrics}: the address is in use`,
    })
    await assertFree(registry)
    await assertFree(peer, true)
    await release(servers[2])
  })
})

test('startMirror reports that the mirror must end once the socket of containerd has been removed', async () => {
  await withTemporaryDirectory(async (dir) => {
    const path = join(dir, 'containerd.sock')
    await writeFile(path, '')
    // Like a mount, this keeps the file although its name is gone, which a container sees after a restart of containerd.
    const keeper = spawn('sh', ['-c', 'exec 3<"$0" && echo open && exec cat', path], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    await once(keeper.stdout, 'data')
    const mounted = `/proc/${keeper.pid}/fd/3`
    const flags = [...LOOPBACK, '--containerd-socket', mounted, '--containerd-config', path, '--certs-dir', dir]
    const mirror = await startMirror(readSettings({ flags, environment: {} }), createLogRecorder().log)
    try {
      await waitFor('a look at containerd', () =>
        mirror.readiness.reasons.some((reason) => /not checked yet: /.test(reason)),
      )
      await rm(path)
      assert.match(
        (await within('the end', mirror.failed)).message,
        /^containerd removed the socket that is mounted here/,
      )
    } finally {
      await mirror.close()
      keeper.stdin.end()
      await once(keeper, 'close')
    }
  })
})
