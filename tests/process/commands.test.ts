import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { open, readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { test } from 'node:test'
import { runHere } from '../fixtures/command.ts'
import { withTemporaryDirectory } from '../fixtures/image.ts'
import { ownAddress, PEER_PORT } from '../fixtures/loopback.ts'
import { LOOPBACK, problemsOf, withImageLayout } from '../fixtures/mirror.ts'
import { commandOf, MAIN, runProgram } from '../fixtures/process.ts'

test('main.ts exits with 78 and prints all problems of the settings, one line each', async () => {
  const { code, stdout, stderr } = await runProgram(MAIN, ['--resolve', 'on', '--nonsense', 'stray'], {
    environment: { SWARMIRROR_LOG_LEVEL: 'loud' },
  })
  assert.equal(code, 78)
  assert.equal(stdout, '')
  assert.deepEqual(stderr.trimEnd().split('\n'), [
    'unknown flag --nonsense; see --help',
    'unexpected argument "stray"',
    '--resolve "on": expected `fallback`, `upstream` or `swarm`',
    'SWARMIRROR_LOG_LEVEL "loud": expected one of debug, info, warn, error',
    '--peer-listen: a door beyond loopback needs a swarm key; give --swarm-key or --swarm-key-file (`key` prints a fresh one)',
  ])
})

test('main.ts exits with 78 when the port of --peer-listen is in use only for UDP', async () => {
  await withImageLayout(async (layout) => {
    const [address, port] = [ownAddress(0), PEER_PORT]
    const socket = createSocket('udp4')
    await new Promise<void>((resolve) => socket.bind({ port, address }, resolve))
    const flags = LOOPBACK.map((value, index) =>
      LOOPBACK[index - 1] === '--peer-listen' ? `${address}:${port}` : value,
    )
    try {
      const { code, stderr } = await runProgram(MAIN, ['--store', `oci-layout:${layout}`, ...flags])
      assert.equal(code, 78)
      assert.deepEqual(problemsOf(stderr), [`--peer-listen ${address}:${port} (UDP): the address is in use`])
    } finally {
      socket.close()
    }
  })
})

test('main.ts continues to serve when it can no longer write its log', async () => {
  await withImageLayout(async (layout) => {
    let statuses: number[] | undefined
    const use = async (child: ChildProcess, registry: string) => {
      child.stderr?.destroy()
      const pull = () => fetch(`http://${registry}/v2/registry.example/team/app/manifests/1`)
      // Each request writes log lines. The first lost line once ended the process.
      statuses = [await pull(), await pull(), await pull()].map(({ status }) => status)
      process.kill(child.pid ?? 0, 'SIGTERM')
    }
    const flags = [...LOOPBACK, '--resolve', 'fallback', '--upstream-timeout', '100ms', '--log-level', 'debug']
    const { code } = await runProgram(MAIN, ['--store', `oci-layout:${layout}`, ...flags], {
      onStart: (child) => {
        child.stderr?.on('data', (text: string) => {
          const [, registry] = /"event":"listening","registry":"([^"]+)"/.exec(text) ?? []
          if (registry !== undefined) void use(child, registry)
        })
      },
    })
    assert.deepEqual(statuses, [200, 200, 200])
    assert.equal(code, 0)
  })
})

test('main.ts hosts writes all files even if nobody reads what it prints, and then exits with 1', async () => {
  await withTemporaryDirectory(async (dir) => {
    const registries = ['a.example', 'b.example', 'c.example']
    const flags = ['--certs-dir', dir, '--registries', registries.join(',')]
    const { code, stderr } = await runProgram(MAIN, ['hosts', ...flags], { onStart: ({ stdout }) => stdout?.destroy() })
    assert.equal(code, 1)
    assert.match(stderr, /^standard output: .*EPIPE.*\n$/)
    for (const registry of registries) assert.deepEqual(await readdir(join(dir, registry)), ['hosts.toml'])
  })
})

test('main.ts does its work even if there is no space for what it prints and logs', async () => {
  await withTemporaryDirectory(async (dir) => {
    const full = await open('/dev/full', 'w')
    const codeOf = async (...args: string[]) => {
      const [command, ...leading] = commandOf(MAIN)
      const child = spawn(command, [...leading, ...args], { stdio: ['ignore', full.fd, full.fd] })
      return (await once(child, 'exit'))[0] as unknown
    }
    const flags = ['--certs-dir', dir, '--registries', 'a.example,b.example']
    const codes = [await codeOf('hosts', ...flags), await codeOf('nonsense')]
    await full.close()
    assert.deepEqual(codes, [1, 78])
    assert.deepEqual((await readdir(dir)).sort(), ['a.example', 'b.example'])
  })
})

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`main.ts exits with 0 after ${signal}, and has logged when it listened, was ready and stopped`, async () => {
    await withImageLayout(async (layout) => {
      const { code, stdout, stderr } = await runProgram(MAIN, ['--store', `oci-layout:${layout}`, ...LOOPBACK], {
        onStart: (child) => {
          child.stderr?.on('data', (text: string) => {
            if (text.includes('"event":"ready"')) process.kill(child.pid ?? 0, signal)
          })
        },
      })
      assert.equal(code, 0)
      assert.equal(stdout, '')
      const told = stderr
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as { event: string; registry?: string })
      const events = told.map(({ event }) => event)
      assert.ok(events.indexOf('listening') >= 0 && events.indexOf('listening') < events.indexOf('ready'))
      assert.deepEqual(events.slice(-3), ['stopping', 'drained', 'stopped'])
      assert.match(told.find(({ event }) => event === 'listening')?.registry ?? '', /^127\.0\.0\.1:\d+$/)
    })
  })
}

test('main.ts demo pulls everything, exits by itself with 0 and leaves nothing behind', async () => {
  await withTemporaryDirectory(async (dir) => {
    const before = await readdir(tmpdir())
    const { code, stdout, stderr } = await runProgram(MAIN, ['demo'], {
      environment: { TMPDIR: dir, SWARMIRROR_LOG_LEVEL: 'nonsense', SWARMIRROR_LISTEN: 'nonsense' },
    })
    assert.equal(stderr, '')
    assert.match(stdout, /pulled 6 blobs, 16\.0 MiB in all, through B; every digest is right/)
    assert.equal(code, 0)
    assert.deepEqual(await readdir(dir), [])
    const added = (await readdir(tmpdir())).filter((name) => !before.includes(name) && name.includes('swarmirror-demo'))
    assert.deepEqual(added, [])
  })
})

test('main.ts asks doors of this machine directly, whatever proxy the environment names', async () => {
  await withTemporaryDirectory(async (dir) => {
    // Nobody listens there.
    const proxy = `http://${ownAddress(0)}:${PEER_PORT}`
    const proxies = { HTTP_PROXY: proxy, http_proxy: proxy, ALL_PROXY: proxy, all_proxy: proxy }
    const { code, stdout, stderr } = await runProgram(MAIN, ['demo'], { environment: { TMPDIR: dir, ...proxies } })
    assert.deepEqual([code, stderr], [0, ''])
    assert.match(stdout, /every digest is right/)
  })
})

test('demo at a terminal keeps both mirrors and their pages until it is asked to stop', async () => {
  const stopping = new AbortController()
  const seen: Promise<number>[] = []
  const { code, stdout, stderr } = await runHere(['demo'], {
    terminal: true,
    environment: { NO_COLOR: '1' },
    stop: stopping.signal,
    onPrint: (text) => {
      const [, page] = /^ {2}[AB], which .* (http:\S+)$/m.exec(text) ?? []
      if (page === undefined) return
      seen.push(fetch(page).then(({ status }) => status))
      if (seen.length === 2) void Promise.all(seen).finally(() => stopping.abort())
    },
  })
  assert.deepEqual([code, stderr, await Promise.all(seen)], [0, '', [200, 200]])
  assert.match(stdout, /stopped both mirrors\n$/)
})

test('main.ts demo cleans up when it is asked to stop in the middle', async () => {
  await withTemporaryDirectory(async (dir) => {
    const { code, stdout, stderr } = await runProgram(MAIN, ['demo'], {
      environment: { TMPDIR: dir },
      onStart: (child) => child.stdout?.once('data', () => process.kill(child.pid ?? 0, 'SIGTERM')),
    })
    assert.doesNotMatch(stdout, /stopped both mirrors/)
    assert.deepEqual([code, stderr], [1, 'demo was stopped before it was done\n'])
    assert.deepEqual(await readdir(dir), [])
  })
})
