import assert from 'node:assert/strict'
import { watch } from 'node:fs'
import { readdir, writeFile } from 'node:fs/promises'
import { test } from 'node:test'
import { within } from '../fixtures/wait.ts'
import { createCheckedNode, EX_CONFIG, wrong } from './harness/checked-node.ts'
import { logLines, metricsOf, testCluster, until } from './harness/index.ts'

const cluster = await testCluster({ nodes: [{ name: 'a', start: [] }] })
const node = await createCheckedNode(cluster, 'a')
const { node: a, mirror, paths } = node
const CONFIG_PATH = `config_path = ${JSON.stringify(paths.certs)}`

test('check: the next start removes what a killed probe left behind', async () => {
  await node.configure(node.right)
  const before = await node.traces()
  const watcher = watch(paths.certs)
  /** Kills the mirror as soon as its probe is there. Returns what the probe left: nothing if this process was held up for too long. */
  const killInTheMiddle = async () => {
    const probing = new Promise<void>((resolve) => {
      watcher.on('change', (_, name) => {
        if (String(name).startsWith('probe-')) resolve()
      })
    })
    mirror.spawn()
    await within('the probe of the mirror', probing)
    await mirror.kill()
    return (await readdir(paths.certs)).filter((name) => name.startsWith('probe-'))
  }
  const left: string[] = []
  try {
    for (let attempt = 1; attempt <= 10 && left.length === 0; attempt++) left.push(...(await killInTheMiddle()))
  } finally {
    watcher.close()
  }
  assert.equal(left.length, 1, 'the mirror was killed in the middle of its probe')
  await mirror.start()
  assert.deepEqual(await node.traces(), before)
  assert.ok(
    logLines(mirror).some(({ event, registry }) => String(event).includes('killed probe') && registry === left[0]),
  )
  assert.equal(await mirror.stop(), 0)
  assert.deepEqual(await node.traces(), before)
})

test('check: a mirror that starts before a wrongly configured containerd ends when containerd comes', async () => {
  await node.configure(node.right.replace(CONFIG_PATH, ''))
  await a.containerd.stop()
  mirror.spawn()
  await until('the mirror to say that it is not ready', async () => {
    const { status, body } = await a.admin('/readyz')
    return status === 503 && body.toString().includes('not checked yet')
  })
  await a.containerd.start()
  await until('the mirror to end', () => !mirror.running)
  assert.equal(await mirror.exited, EX_CONFIG)
  assert.match(mirror.output('stderr'), /error {3}registry-config-path: config_path is not set/)
})

test('check: a running mirror is not ready while the configuration is wrong, and recovers', async () => {
  await node.configure(node.right)
  await mirror.start()
  const { pid } = mirror
  await a.removeHosts('_default')
  await until('the mirror to say what is wrong', async () => {
    const { status, body } = await a.admin('/readyz')
    return status === 503 && body.toString().includes('check hosts-toml-missing: ')
  })
  assert.match(await metricsOf(a), /swarmirror_check_findings\{severity="error"\} 1/)
  assert.equal((await a.curl('/v2/')).status, 200)
  // Somebody may check while the node's mirror runs: the check finds the mirror's doors, and does not disturb its probes.
  assert.deepEqual(wrong((await node.check()).report), ['error hosts-toml-missing'])
  await node.followAll()
  // The hosts.toml files are right again, but a new containerd reads another configuration.
  await a.containerd.stop()
  await writeFile(paths.config, node.right.replace(CONFIG_PATH, ''))
  await a.containerd.start()
  await until('the mirror to see it', async () =>
    (await a.admin('/readyz')).body.toString().includes('probe-mirror-asked'),
  )
  assert.equal(mirror.pid, pid)
  await node.followAll()
  await until('the mirror to be ready again', () => a.isReady())
  assert.equal(await mirror.stop(), 0)
})

test('check: several checks at once, beside a mirror that also checks, do not disturb each other', async () => {
  await node.configure(node.right)
  const before = await node.traces()
  mirror.spawn()
  await until('the doors of the mirror', () => logLines(mirror).some(({ event }) => event === 'listening'))
  for (let round = 1; round <= 2; round++) {
    const checks = await Promise.all(Array.from({ length: 3 }, () => node.check()))
    for (const { code, report } of checks) assert.deepEqual([code, wrong(report)], [0, []])
    await until('the mirror to be ready', () => a.isReady())
  }
  const errors = logLines(mirror).filter(({ level }) => level === 'warn' || level === 'error')
  // The harness passes the swarm key on the command line. Nothing else deserves a warning.
  assert.deepEqual(
    errors.map(({ event }) => event),
    ['insecure setting'],
  )
  assert.equal(await mirror.stop(), 0)
  assert.deepEqual(await node.traces(), before)
})
