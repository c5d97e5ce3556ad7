import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { type RunOptions, runHere } from '../../fixtures/command.ts'
import { LOOPBACK, problemsOf, withImageLayout } from '../../fixtures/mirror.ts'
import { readSettings } from '../../fixtures/settings.ts'

test('runCommand ends with 78 for an unknown command and says which there are', async () => {
  const { code, stderr } = await runHere(['server'])
  assert.equal(code, 78)
  assert.equal(
    stderr,
    'unknown command "server"; the commands are serve, check, hosts, demo, key, version; see --help\n',
  )
})

test('runCommand key prints a fresh swarm key that is accepted, another one each time', async () => {
  const runs = [await runHere(['key']), await runHere(['key'])]
  for (const { code, stdout, stderr } of runs) {
    assert.deepEqual([code, stderr], [0, ''])
    const settings = readSettings({ flags: ['--swarm-key', stdout.trimEnd()], environment: {} })
    assert.deepEqual(
      settings['swarm-key']?.map(({ length }) => length),
      [32],
    )
  }
  assert.notEqual(runs[0]?.stdout, runs[1]?.stdout)
})

test('runCommand version prints name and version; it, key and demo take no arguments', async () => {
  const { code, stdout } = await runHere(['version'])
  assert.equal(code, 0)
  assert.match(stdout, /^swarmirror \d+\.\d+\.\d+\n$/)
  for (const command of ['version', 'key', 'demo']) {
    const refused = await runHere([command, '--resolve', 'swarm'])
    assert.deepEqual([refused.code, refused.stderr], [78, `${command}: unexpected argument "--resolve"\n`])
  }
})

test('runCommand repeats no swarm key, wherever it was given', async () => {
  const { stdout: key } = await runHere(['key'])
  for (const args of [[key.trim()], ['key', key.trim()], ['demo', `--${key.trim()}`], ['check', key.trim()]]) {
    const { code, stdout, stderr } = await runHere(args)
    assert.equal(code, 78)
    assert.match(stderr, /"-{0,2}\(swarm key\)"/)
    assert.doesNotMatch(stdout + stderr, new RegExp(key.trim()))
  }
})

test('runCommand prints the help of the program, or of a command, whatever else is given', async () => {
  for (const [args, pattern] of [
    [['--help'], /^swarmirror: .*\n[\s\S]*Commands:\n {2}serve /],
    [['-h'], /^swarmirror: /],
    [['help'], /^swarmirror: /],
    [['help', 'check'], /^swarmirror check: /],
    [['help', 'server'], /^swarmirror: /],
    [['server', '--help'], /^swarmirror: /],
    [['serve', '--nonsense', '--help'], /^swarmirror serve: .*\n[\s\S]*--peer-listen {2}SWARMIRROR_PEER_LISTEN/],
    [['check', '--json', '-h'], /^swarmirror check: /],
    [['hosts', '-h'], /^swarmirror hosts: .*\n[\s\S]*--dry-run\n/],
    [['key', '--help'], /^swarmirror key: /],
  ] as const) {
    const { code, stdout, stderr } = await runHere(args)
    assert.deepEqual([code, stderr], [0, ''])
    assert.match(stdout, pattern)
  }
})

test('runCommand uses colours only on a terminal, and none if NO_COLOR is set', async () => {
  for (const args of [['--help'], ['check', '--help'], ['serve', '--nonsense']]) {
    const hasColours = async (options: RunOptions) => {
      const { stdout, stderr } = await runHere(args, options)
      return (stdout + stderr).includes('\u001b[')
    }
    assert.equal(await hasColours({ terminal: true }), true)
    assert.equal(await hasColours({ terminal: true, environment: { NO_COLOR: '1' } }), false)
    assert.equal(await hasColours({}), false)
  }
})

test('runCommand at a terminal says which help shows the flags', async () => {
  const { code, stderr } = await runHere(['hosts', '--nonsense'], { terminal: true, environment: { TERM: 'dumb' } })
  assert.equal(code, 78)
  assert.equal(stderr, 'unknown flag --nonsense; see --help\n\nfalse hosts --help   shows the flags of hosts\n')
})

test('serve at a terminal writes a log for people, and where its page is', async () => {
  await withImageLayout(async (layout) => {
    const stopping = new AbortController()
    const { code, stdout, stderr } = await runHere(['serve', '--store', `oci-layout:${layout}`, ...LOOPBACK], {
      terminal: true,
      environment: { NO_COLOR: '1' },
      stop: stopping.signal,
      onReport: (text) => {
        if (/^\d\d:\d\d:\d\d {2}info {3}ready/.test(text)) stopping.abort()
      },
    })
    assert.deepEqual([code, stdout], [0, ''])
    assert.match(stderr, /^\d\d:\d\d:\d\d {2}info {3}listening {2}registry=127\.0\.0\.1:\d+ /m)
    assert.match(stderr, /^This mirror is running\. Its page: http:\/\/127\.0\.0\.1:\d+\/ \(Ctrl\+C stops it\)$/m)
  })
})

test('runCommand prints the version with --version and -v, unless that is the value of a flag', async () => {
  for (const args of [
    ['--version'],
    ['-v'],
    ['serve', '--resolve', 'swarm', '-v'],
    ['hosts', '--dry-run', '-v'],
    ['check', '--version'],
  ]) {
    const { code, stdout, stderr } = await runHere(args)
    assert.deepEqual([code, stderr], [0, ''])
    assert.match(stdout, /^swarmirror \d+\.\d+\.\d+\n$/)
  }
  const { code, stderr } = await runHere(['serve', '--bootstrap', '-v'])
  assert.equal(code, 78)
  assert.match(stderr, /^--bootstrap "-v": expected a port/)
})

test('runCommand ends with 78 for a layout that is none, and names what is wrong with it', async () => {
  await withImageLayout(async (layout, dir) => {
    const missing = await runHere(['--store', `oci-layout:${join(dir, 'missing')}`, ...LOOPBACK])
    assert.equal(missing.code, 78)
    assert.match(missing.stderr, /^--store oci-layout:.*missing: .*no such directory/)
    await writeFile(join(layout, 'index.json'), '{"half')
    const broken = await runHere(['--store', `oci-layout:${layout}`, ...LOOPBACK])
    assert.equal(broken.code, 78)
    assert.match(broken.stderr, /^--store oci-layout:.*index\.json: not JSON/)
  })
})

test('runCommand ends with 78 for a data directory that cannot be one', async () => {
  await withImageLayout(async (layout) => {
    const file = join(layout, 'oci-layout')
    const args = ['--store', `oci-layout:${layout}`, ...LOOPBACK, '--data-dir', file]
    const { code, stderr } = await runHere(args)
    assert.equal(code, 78)
    assert.deepEqual(problemsOf(stderr).length, 1, stderr)
    assert.match(problemsOf(stderr)[0] ?? '', /^--data-dir .*oci-layout: ENOTDIR: not a directory/)
  })
})

for (const door of ['listen', 'peer-listen', 'admin-listen', 'metrics-listen']) {
  test(`runCommand ends with 78 when the port of --${door} is in use`, async () => {
    await withImageLayout(async (layout) => {
      const server = createServer()
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      const { port } = server.address() as { port: number }
      const at = LOOPBACK.indexOf(`--${door}`)
      const others = at < 0 ? LOOPBACK : LOOPBACK.toSpliced(at, 2)
      const flags = [...others, `--${door}`, `127.0.0.1:${port}`]
      const { code, stderr } = await runHere(['--store', `oci-layout:${layout}`, ...flags])
      server.close()
      assert.equal(code, 78)
      assert.deepEqual(problemsOf(stderr), [`--${door} 127.0.0.1:${port}: the address is in use`])
    })
  })
}

test('runCommand ends with 78 for an address that this machine has not', async () => {
  await withImageLayout(async (layout) => {
    const key = ['--swarm-key', '0'.repeat(64)]
    // An address for documentation, which nobody has (RFC 5737).
    const flags = ['--store', `oci-layout:${layout}`, ...LOOPBACK, ...key].map((value, index, all) =>
      all[index - 1] === '--listen' ? '192.0.2.1:5000' : value,
    )
    const { code, stderr } = await runHere(flags)
    assert.equal(code, 78)
    assert.deepEqual(problemsOf(stderr), ['--listen 192.0.2.1:5000: this machine has no such address'])
  })
})

test('runCommand ends with 1 and the reason when a command fails otherwise', async () => {
  const { code, stdout, stderr } = await runHere(['demo'], { stop: AbortSignal.abort(new Error('no time')) })
  assert.equal(code, 1)
  assert.match(stdout, /made registry\.example/)
  assert.match(stderr, /^Error: no time/)
})
