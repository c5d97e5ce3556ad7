import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it, test } from 'node:test'
import { type CommandOutcome, runHere } from '../../fixtures/command.ts'
import { withTemporaryDirectory } from '../../fixtures/image.ts'

/** Runs `hosts` without containerd, as an init container would. */
async function run(certs: string, ...args: string[]): Promise<CommandOutcome> {
  const flags = ['--certs-dir', certs, ...args]
  const environment = { SWARMIRROR_SWARM_KEY_FILE: '/not/mounted/here' }
  return await runHere(['hosts', ...flags], { environment, self: ['swarmirror'] })
}

test('hosts writes without a socket and a swarm key, says what it did, and undoes it', async () => {
  await withTemporaryDirectory(async (certs) => {
    const made = await run(certs)
    assert.deepEqual([made.code, made.stdout], [0, `${certs}/_default/hosts.toml: created\n`])
    assert.equal(made.stderr, '')
    assert.equal((await run(certs)).stdout, `${certs}/_default/hosts.toml: nothing to change: the mirror is first\n`)
    const removed = await run(certs, '--remove')
    assert.deepEqual([removed.code, removed.stderr], [0, ''])
    assert.equal(removed.stdout, `${certs}/_default/hosts.toml: deleted, since swarmirror had created it\n`)
    assert.deepEqual(await readdir(certs), [])
    assert.equal((await run(certs, '--remove')).stdout, `${certs}: no hosts.toml has an entry that swarmirror wrote\n`)
  })
})

test('hosts --dry-run shows what the files would be and changes nothing', async () => {
  await withTemporaryDirectory(async (certs) => {
    await mkdir(join(certs, 'ghcr.io'))
    const path = join(certs, 'ghcr.io', 'hosts.toml')
    await writeFile(path, '[host."https://b"]\n')
    const { code, stdout } = await run(certs, '--registries', 'ghcr.io,docker.io', '--resolve', 'upstream', '--dry-run')
    assert.equal(code, 0)
    assert.match(
      stdout,
      /^this is a dry run, .*\n.*\/ghcr\.io\/hosts\.toml: the mirror comes first now, .*\n.*\n {4}# >>>/,
    )
    assert.match(stdout, /\n {6}capabilities = \["pull"\]\n {4}# <<< swarmirror hosts\n {4}\[host\."https:\/\/b"\]\n\//)
    assert.deepEqual(await readdir(certs), ['ghcr.io'])
    assert.equal(await readFile(path, 'utf8'), '[host."https://b"]\n')
  })
})

test('hosts ends with 78 before the first write when one of the files cannot be edited', async () => {
  await withTemporaryDirectory(async (certs) => {
    await mkdir(join(certs, 'ghcr.io'))
    await writeFile(join(certs, 'ghcr.io', 'hosts.toml'), 'a = ]\n')
    const { code, stderr } = await run(certs, '--registries', 'docker.io,ghcr.io')
    assert.equal(code, 78)
    assert.match(stderr, /ghcr\.io\/hosts\.toml: line 1, column \d+: .*; nothing was written\n$/)
    assert.deepEqual(await readdir(certs), ['ghcr.io'])
  })
})

test('hosts ends with 78 for a file that cannot be changed after all, and changes the others', async () => {
  await withTemporaryDirectory(async (certs) => {
    const changed = join(certs, 'ghcr.io', 'hosts.toml')
    const { code, stdout, stderr } = await runHere(
      ['hosts', '--certs-dir', certs, '--registries', 'docker.io,ghcr.io,quay.io'],
      {
        // While the first file is written, somebody else writes the second.
        onPrint: () => {
          mkdirSync(join(certs, 'ghcr.io'), { recursive: true })
          writeFileSync(changed, '# theirs\n')
        },
      },
    )
    assert.deepEqual([code, stderr], [78, `${changed}: somebody changed it meanwhile\n`])
    assert.match(stdout, /docker\.io.*: created\n.*quay\.io.*: created\n$/)
    assert.equal(await readFile(changed, 'utf8'), '# theirs\n')
  })
})

test('hosts ends with 78 for a door on any port, since containerd must know which', async () => {
  const { code, stderr } = await run('/nowhere', '--listen', '127.0.0.1:0')
  assert.deepEqual(
    [code, stderr],
    [78, '--listen: expected the port on which the mirror listens, not 0, which means any\n'],
  )
})

test('hosts tells the registries that _default does not count for, with the command for them', async () => {
  await withTemporaryDirectory(async (certs) => {
    await mkdir(join(certs, 'a.b_5000_'))
    await mkdir(join(certs, 'ghcr.io'))
    const { stdout } = await run(certs)
    assert.match(stdout, /\na\.b:5000: not mirrored, because .* _default\nghcr\.io: not mirrored, .*\n/)
    const [, also = ''] = /\nto mirror them, too: swarmirror hosts --also (\S+) --certs-dir \/.*\n$/.exec(stdout) ?? []
    assert.equal(also, 'a.b:5000,ghcr.io')
    const { stdout: done } = await run(certs, '--also', also)
    assert.doesNotMatch(done, /not mirrored/)
    for (const name of ['_default', 'a.b_5000_', 'ghcr.io']) {
      assert.match(await readFile(join(certs, name, 'hosts.toml'), 'utf8'), /http:\/\/127\.0\.0\.1:5000/)
    }
  })
})

describe('hosts --also', () => {
  const THEIRS = '[host."https://b"]\n'

  async function withRegistries(texts: Readonly<Record<string, string>>, work: (certs: string) => Promise<void>) {
    await withTemporaryDirectory(async (certs) => {
      for (const [name, text] of Object.entries(texts)) {
        await mkdir(join(certs, name))
        await writeFile(join(certs, name, 'hosts.toml'), text)
      }
      await work(certs)
    })
  }

  it('writes for a registry with a directory of its own beside all others, and --remove undoes both', () =>
    withRegistries({ 'ghcr.io': THEIRS, 'quay.io': THEIRS }, async (certs) => {
      const first = await run(certs, '--also', 'ghcr.io')
      assert.equal(first.code, 0)
      assert.match(first.stdout, /_default\/hosts\.toml: created\n.*ghcr\.io\/hosts\.toml: the mirror comes first now/)
      assert.match(first.stdout, /\nquay\.io: not mirrored/)
      assert.match(await readFile(join(certs, 'ghcr.io', 'hosts.toml'), 'utf8'), /127\.0\.0\.1:5000.*https:\/\/b/s)
      assert.equal(await readFile(join(certs, 'quay.io', 'hosts.toml'), 'utf8'), THEIRS)
      assert.equal((await run(certs, '--also', 'ghcr.io')).stdout.match(/nothing to change/g)?.length, 2)
      await run(certs, '--remove')
      assert.deepEqual((await readdir(certs)).sort(), ['ghcr.io', 'quay.io'])
      assert.equal(await readFile(join(certs, 'ghcr.io', 'hosts.toml'), 'utf8'), THEIRS)
    }))

  it('makes no directory for a registry that has none, and says that _default counts for it', () =>
    withRegistries({}, async (certs) => {
      const { code, stdout } = await run(certs, '--also', 'ghcr.io')
      assert.equal(code, 0)
      assert.match(stdout, /^ghcr\.io: no directory of its own, so _default counts for it\n/)
      assert.deepEqual(await readdir(certs), ['_default'])
    }))

  it('all writes for every registry with a directory, and leaves those that others broke', () =>
    withRegistries({ 'ghcr.io': THEIRS, 'a.b_5000_': '', 'quay.io': 'a = ]\n' }, async (certs) => {
      const { code, stdout, stderr } = await run(certs, '--also', 'all')
      assert.equal(code, 0)
      for (const name of ['_default', 'ghcr.io', 'a.b_5000_']) {
        assert.match(await readFile(join(certs, name, 'hosts.toml'), 'utf8'), /http:\/\/127\.0\.0\.1:5000/, name)
      }
      assert.match(stderr, /quay\.io\/hosts\.toml: left as it is: line 1, column \d+: /)
      assert.doesNotMatch(stdout, /quay\.io/)
      assert.equal(await readFile(join(certs, 'quay.io', 'hosts.toml'), 'utf8'), 'a = ]\n')
    }))

  it('--remove leaves files that nobody can read, unless it is told of them', () =>
    withRegistries({ 'ghcr.io': THEIRS, 'quay.io': '' }, async (certs) => {
      await run(certs, '--also', 'all')
      const path = join(certs, 'quay.io', 'hosts.toml')
      await rm(path)
      await mkdir(path)
      const named = await run(certs, '--remove', '--registries', 'ghcr.io,quay.io')
      assert.deepEqual([named.code, named.stdout], [78, ''])
      assert.match(named.stderr, /quay\.io\/hosts\.toml: .* is not a file; nothing was written\n$/)
      const { code, stderr } = await run(certs, '--remove')
      assert.equal(code, 0)
      assert.match(stderr, /quay\.io\/hosts\.toml: left as it is: .* is not a file\n$/)
      assert.deepEqual((await readdir(certs)).sort(), ['ghcr.io', 'quay.io'])
      assert.equal(await readFile(join(certs, 'ghcr.io', 'hosts.toml'), 'utf8'), THEIRS)
    }))

  it('writes nothing if a file that it names is broken', () =>
    withRegistries({ 'quay.io': 'a = ]\n' }, async (certs) => {
      const { code, stderr } = await run(certs, '--also', 'quay.io')
      assert.equal(code, 78)
      assert.match(stderr, /quay\.io\/hosts\.toml: line 1, column \d+: .*; nothing was written\n$/)
      assert.deepEqual(await readdir(certs), ['quay.io'])
    }))

  it('is refused beside --registries, which names all there are', async () => {
    const { code, stderr } = await run('/nowhere', '--also', 'ghcr.io', '--registries', 'quay.io')
    assert.equal(code, 78)
    assert.match(stderr, /^--registries and --also: .*\n$/)
  })
})

test('hosts ends with 78 and the reason where it may not look, or a file is in the way', async () => {
  await withTemporaryDirectory(async (directory) => {
    const certs = join(directory, 'certs.d')
    await writeFile(certs, '')
    for (const args of [[], ['--remove'], ['--registries', 'ghcr.io'], ['--also', 'all']]) {
      const { code, stderr } = await run(certs, ...args)
      assert.equal(code, 78)
      assert.match(stderr, /(^|\n)ENOTDIR: .*certs\.d.*; nothing was written\n$/)
    }
  })
})

test('hosts does not name a probe that runs among the registries', async () => {
  await withTemporaryDirectory(async (certs) => {
    await mkdir(join(certs, 'probe-0123456789abcdef-9.swarmirror.invalid'))
    assert.equal((await run(certs)).stdout, `${certs}/_default/hosts.toml: created\n`)
  })
})

test('hosts ends with 78 for a door on an IPv6 address, which not every containerd could read', async () => {
  await withTemporaryDirectory(async (certs) => {
    const { code, stderr } = await run(certs, '--listen', '[::1]:5000')
    assert.equal(code, 78)
    assert.match(
      stderr,
      /hosts\.toml: line 1: containerd 1\.x would not read the file with http:\/\/\[::1\]:5000 in it; /,
    )
    assert.deepEqual(await readdir(certs), [])
  })
})
