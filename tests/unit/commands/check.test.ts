import assert from 'node:assert/strict'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Report } from '../../../lib/containerd/check/report.ts'
import { runHere } from '../../fixtures/command.ts'
import { withTemporaryDirectory } from '../../fixtures/image.ts'

const CONFIG = (certs: string) => `version = 2
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = ${JSON.stringify(certs)}
`

const run = (args: readonly string[], stop?: AbortSignal) =>
  runHere(['check', ...args], stop === undefined ? {} : { stop })

/** A node with correct files on which containerd does not run, and the flags for it. */
async function withNode(use: (dir: string, flags: readonly string[]) => Promise<void>): Promise<void> {
  await withTemporaryDirectory(async (dir) => {
    const certs = join(dir, 'certs.d')
    await mkdir(join(certs, '_default'), { recursive: true })
    await writeFile(
      join(certs, '_default', 'hosts.toml'),
      '[host."http://127.0.0.1:5000"]\ncapabilities = ["pull", "resolve"]\n',
    )
    await writeFile(join(dir, 'config.toml'), CONFIG(certs))
    const flags = { 'containerd-socket': 'none.sock', 'containerd-config': 'config.toml', 'certs-dir': 'certs.d' }
    await use(
      dir,
      Object.entries(flags).flatMap(([name, file]) => [`--${name}`, join(dir, file)]),
    )
  })
}

test('check without containerd says so, and what it read all the same', () =>
  withNode(async (_, flags) => {
    const { code, stdout, stderr } = await run(['--json', ...flags])
    assert.deepEqual([code, stderr], [78, ''])
    const { outcome, findings }: Report = JSON.parse(stdout)
    assert.equal(outcome, 'failed')
    const severities = Object.fromEntries(findings.map(({ id, severity }) => [id, severity]))
    assert.equal(severities['containerd-socket'], 'error')
    assert.equal(severities['registry-config-path'], 'ok')
    assert.equal(severities['hosts-toml'], 'ok')
    for (const id of ['containerd-version', 'probe-mirror-asked', 'probe-layers-kept', 'clock']) {
      assert.equal(severities[id], 'unknown', id)
    }
    const missing = findings.find(({ id }) => id === 'containerd-socket')
    assert.match(missing?.seen ?? '', /none\.sock: nobody listens there/)
  }))

test('check is for people without --json', () =>
  withNode(async (_, flags) => {
    const { code, stdout, stderr } = await run(flags)
    assert.deepEqual([code, stderr], [78, ''])
    assert.match(stdout, /^error {3}containerd-socket: .*\n {2}expected: containerd answers on its socket\n/)
    assert.match(stdout, /\nfailed: \d errors?, .*\n$/)
  }))

test('check reads what is wrong in the files, and never touches them', () =>
  withNode(async (dir, flags) => {
    await writeFile(join(dir, 'config.toml'), CONFIG('/elsewhere'))
    await chmod(join(dir, 'config.toml'), 0o444)
    const { stdout } = await run(['--json', '--probe', 'off', ...flags])
    const { findings }: Report = JSON.parse(stdout)
    assert.equal(findings.find(({ id }) => id === 'registry-config-path')?.severity, 'error')
  }))

test('check ends when it is asked to', () =>
  withNode(async (dir, flags) => {
    // Accepts connections and stays silent, so only the signal ends the wait.
    const silent = createServer((socket) => socket.on('error', () => socket.destroy()).resume())
    await new Promise<void>((resolve) => silent.listen(join(dir, 'none.sock'), resolve))
    const stop = new AbortController()
    silent.once('connection', () => stop.abort(new Error('asked to end')))
    const { code, stdout, stderr } = await run(flags, stop.signal)
    assert.deepEqual([code, stdout], [1, ''])
    assert.match(stderr, /asked to end/)
    await new Promise((resolve) => silent.close(resolve))
  }))

test('check refuses what it is not about', async () => {
  const layout = await run(['--store', 'oci-layout:/tmp'])
  assert.deepEqual([layout.code, layout.stdout], [78, ''])
  assert.match(layout.stderr, /^check looks at containerd/)
  const unknown = await run(['--probe', 'maybe', '--jsonl'])
  assert.equal(unknown.code, 78)
  assert.match(unknown.stderr, /--jsonl/)
  assert.match(unknown.stderr, /expected `on` or `off`/)
})
