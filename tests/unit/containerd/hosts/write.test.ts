import assert from 'node:assert/strict'
import { chmod, chown, lstat, mkdir, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { dialectOf } from '../../../../lib/containerd/dialect.ts'
import { HOSTS_FILES } from '../../../../lib/containerd/hosts/files.ts'
import { planRemove } from '../../../../lib/containerd/hosts/plan.ts'
import { readHosts } from '../../../../lib/containerd/hosts/reading.ts'
import { withTemporaryDirectory } from '../../../fixtures/image.ts'
import { carryOut, MIRROR, plan, put, refusal, write } from './planning.ts'

async function remove(certsDir: string, registries?: readonly string[]): Promise<Record<string, string>> {
  return await carryOut(certsDir, await planRemove({ certsDir, registries }, HOSTS_FILES))
}

/** Everything below a directory: texts, links and modes. */
async function snapshot(directory: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const name of (await readdir(directory, { recursive: true })).sort()) {
    const path = join(directory, name)
    const status = await lstat(path)
    const mode = (status.mode & 0o7777).toString(8)
    if (status.isSymbolicLink()) found[name] = `-> ${await readlink(path)}`
    else
      found[name] = status.isDirectory() ? mode : `${mode} ${status.uid}:${status.gid} ${await readFile(path, 'utf8')}`
  }
  return found
}

async function hostsOf(directory: string, version = '1.7.24'): Promise<string[]> {
  const reading = readHosts(await readFile(join(directory, 'hosts.toml'), 'utf8'), dialectOf(version))
  assert.ok(reading.kind === 'hosts', reading.kind)
  return reading.hosts.map(({ name }) => name)
}

test('planWrite makes a file for each registry that every version can read, and planRemove leaves nothing behind', async () => {
  await withTemporaryDirectory(async (dir) => {
    const certs = join(dir, 'etc', 'certs.d')
    const registries = ['docker.io', 'ghcr.io', 'registry.example:5000', 'localhost:5000', '[::1]:443', '_default']
    const made = await write(certs, registries)
    assert.deepEqual(new Set(Object.values(made)), new Set(['create']))
    for (const registry of registries) {
      for (const version of ['1.6.36', '1.7.24', '1.7.32', '2.0.0', '2.2.0', undefined]) {
        const reading = readHosts(await readFile(join(certs, registry, 'hosts.toml'), 'utf8'), dialectOf(version))
        assert.ok(reading.kind === 'hosts')
        assert.deepEqual(
          reading.hosts.map(({ name, capabilities }) => [name, ...capabilities]),
          [[MIRROR, 'pull', 'resolve']],
        )
        assert.equal(reading.server.name, '')
      }
    }
    assert.equal((await stat(join(certs, 'docker.io'))).mode & 0o777, 0o755)
    assert.equal((await stat(join(certs, 'docker.io', 'hosts.toml'))).mode & 0o777, 0o644)
    const removed = await remove(certs)
    assert.deepEqual(new Set(Object.values(removed)), new Set(['delete']))
    assert.deepEqual(await readdir(certs), [])
  })
})

test('planWrite changes nothing the second time, and only our entry when the settings changed', async () => {
  await withTemporaryDirectory(async (certs) => {
    await put(join(certs, 'docker.io', 'hosts.toml'), '# theirs\n[host."https://b"]\n')
    const original = await snapshot(certs)
    await write(certs, ['docker.io', 'ghcr.io'])
    const written = await snapshot(certs)
    assert.deepEqual(await write(certs, ['docker.io', 'ghcr.io']), {
      'docker.io/hosts.toml': 'keep',
      'ghcr.io/hosts.toml': 'keep',
    })
    assert.deepEqual(await snapshot(certs), written)
    await write(certs, ['docker.io', 'ghcr.io'], { port: 5005, resolve: 'upstream' })
    const changed = await readFile(join(certs, 'docker.io', 'hosts.toml'), 'utf8')
    assert.match(changed, /\[host\."http:\/\/127\.0\.0\.1:5005"\]\n {2}capabilities = \["pull"\]\n/)
    assert.deepEqual(await hostsOf(join(certs, 'docker.io')), ['http://127.0.0.1:5005', 'https://b'])
    await remove(certs)
    assert.deepEqual(await snapshot(certs), original)
  })
})

test('planWrite keeps mode and owner of a file, and planRemove restores its bytes', async (t) => {
  await withTemporaryDirectory(async (certs) => {
    const path = join(certs, 'docker.io', 'hosts.toml')
    await put(path, '[host."https://b"]\r\n  ca = "b.crt" # no end of line')
    await chmod(path, 0o640)
    if (process.getuid?.() === 0) await chown(path, 12, 34)
    else t.diagnostic('not root, so the owner does not change')
    const original = await snapshot(certs)
    await write(certs, ['docker.io'])
    assert.match((await snapshot(certs))[join('docker.io', 'hosts.toml')] ?? '', /^640 (12:34|\d+:\d+) /)
    assert.deepEqual(await remove(certs), { 'docker.io/hosts.toml': 'take-out' })
    assert.deepEqual(await snapshot(certs), original)
  })
})

test('planWrite replaces a wrong entry that somebody wrote by hand for the mirror, and planRemove removes it', async () => {
  await withTemporaryDirectory(async (certs) => {
    const path = join(certs, '_default', 'hosts.toml')
    await put(path, `[host."${MIRROR}"]\n  capabilities = ["pull", "resolve"]\n`)
    const right = await snapshot(certs)
    assert.deepEqual(await write(certs, ['_default']), { '_default/hosts.toml': 'keep' })
    assert.deepEqual(await snapshot(certs), right)
    assert.deepEqual(await write(certs, ['_default'], { resolve: 'upstream' }), { '_default/hosts.toml': 'update' })
    assert.match(await readFile(path, 'utf8'), /\["pull"\]/)
    assert.deepEqual(await remove(certs), { '_default/hosts.toml': 'take-out' })
    assert.equal(await readFile(path, 'utf8'), '')
    await put(path, `[host."https://up"]\n[host."${MIRROR}"]\n[host."https://late"]\n`)
    await write(certs, ['_default'])
    assert.deepEqual(await hostsOf(dirname(path)), [MIRROR, 'https://up', 'https://late'])
    await remove(certs)
    assert.equal(await readFile(path, 'utf8'), '[host."https://up"]\n[host."https://late"]\n')
  })
})

test('planRemove removes only our entry if others have changed the file', async () => {
  await withTemporaryDirectory(async (certs) => {
    const path = join(certs, 'docker.io', 'hosts.toml')
    await put(path, '[host."https://b"]\n')
    await write(certs, ['docker.io', 'ghcr.io'])
    await writeFile(path, `${await readFile(path, 'utf8')}# new\n[host."https://c"]\n`)
    await put(join(certs, 'ghcr.io', 'other.crt'), 'theirs')
    assert.deepEqual(await remove(certs), { 'docker.io/hosts.toml': 'take-out', 'ghcr.io/hosts.toml': 'delete' })
    assert.equal(await readFile(path, 'utf8'), '[host."https://b"]\n# new\n[host."https://c"]\n')
    assert.deepEqual(await readdir(join(certs, 'ghcr.io')), ['other.crt'])
  })
})

test('planRemove changes only the named registries, and nothing that others wrote', async () => {
  await withTemporaryDirectory(async (certs) => {
    await put(join(certs, 'quay.io', 'hosts.toml'), '# swarmirror was here\nbroken = ')
    await put(join(certs, 'quay.io', 'x.crt'), 'x')
    const original = await snapshot(certs)
    await write(certs, ['docker.io', 'ghcr.io'])
    assert.deepEqual(await remove(certs, ['ghcr.io', 'gcr.io']), { 'ghcr.io/hosts.toml': 'delete' })
    assert.deepEqual((await readdir(certs)).sort(), ['docker.io', 'quay.io'])
    await remove(certs)
    assert.deepEqual(await snapshot(certs), original)
    assert.deepEqual(await remove(certs), {})
  })
})

test('planWrite refuses to end the use of Docker-style certificates, which count only where there is no hosts.toml', async () => {
  await withTemporaryDirectory(async (certs) => {
    await put(join(certs, 'private.example', 'a.crt'), 'a')
    const original = await snapshot(certs)
    assert.match(await refusal(certs, ['private.example']), /certificates .* name them with `ca` and `client`/)
    // containerd 1.7.24 discards a file with a server alone, and takes the certificates.
    await put(join(certs, 'private.example', 'hosts.toml'), 'server = "https://private.example"\n')
    assert.match(await refusal(certs, ['private.example']), /certificates/)
    await put(join(certs, 'private.example', 'hosts.toml'), '[host."https://private.example"]\n  ca = "a.crt"\n')
    assert.deepEqual(await write(certs, ['private.example']), { 'private.example/hosts.toml': 'update' })
    await remove(certs)
    await rm(join(certs, 'private.example', 'hosts.toml'))
    assert.deepEqual(await snapshot(certs), original)
  })
})

test('planWrite completes a file with only a server, which containerd 1.7.24 cannot read', async () => {
  await withTemporaryDirectory(async (certs) => {
    await put(join(certs, 'ghcr.io', 'hosts.toml'), 'server = "https://ghcr.io"\n')
    await write(certs, ['ghcr.io'])
    assert.deepEqual(await hostsOf(join(certs, 'ghcr.io')), [MIRROR])
    // An empty file counts as none.
    await put(join(certs, 'quay.io', 'hosts.toml'), '')
    await write(certs, ['quay.io'])
    assert.deepEqual(await hostsOf(join(certs, 'quay.io')), [MIRROR])
    await remove(certs)
    assert.equal(await readFile(join(certs, 'quay.io', 'hosts.toml'), 'utf8'), '')
  })
})

for (const [form, there, counts] of [
  ['host_port_', ['registry.example_5000_'], 'registry.example_5000_'],
  ['host:port', ['registry.example:5000'], 'registry.example:5000'],
  ['both', ['registry.example:5000', 'registry.example_5000_'], 'registry.example_5000_'],
] as const) {
  test(`planWrite writes where containerd looks first when ${form} exists`, async () => {
    await withTemporaryDirectory(async (certs) => {
      for (const name of there) await put(join(certs, name, 'hosts.toml'), `[host."https://of-${name.length}"]\n`)
      const original = await snapshot(certs)
      const { changes } = await plan(certs, ['registry.example:5000'])
      assert.deepEqual(
        changes.map(({ path }) => path),
        [join(certs, counts, 'hosts.toml')],
      )
      await write(certs, ['registry.example:5000'])
      assert.deepEqual((await hostsOf(join(certs, counts)))[0], MIRROR)
      await remove(certs, ['registry.example:5000'])
      assert.deepEqual(await snapshot(certs), original)
    })
  })
}

test('planWrite writes through links and keeps them', async () => {
  await withTemporaryDirectory(async (dir) => {
    const certs = join(dir, 'certs.d')
    await put(join(dir, 'elsewhere', 'hosts.toml'), '[host."https://b"]\n  ca = "b.crt"\n')
    await mkdir(join(dir, 'shared'))
    await mkdir(join(certs, 'file.example'), { recursive: true })
    await symlink('../../elsewhere/hosts.toml', join(certs, 'file.example', 'hosts.toml'))
    await symlink('../shared', join(certs, 'one.example'))
    await symlink('../shared', join(certs, 'two.example'))
    const original = await snapshot(dir)
    await write(certs, ['file.example', 'one.example', 'two.example'])
    assert.equal((await lstat(join(certs, 'file.example', 'hosts.toml'))).isSymbolicLink(), true)
    assert.deepEqual(await hostsOf(join(dir, 'elsewhere')), [MIRROR, 'https://b'])
    assert.deepEqual(await write(certs, ['two.example']), { 'two.example/hosts.toml': 'keep' })
    await remove(certs)
    assert.deepEqual(await snapshot(dir), original)
    await mkdir(join(certs, 'gone.example'))
    await symlink('../../nothing', join(certs, 'gone.example', 'hosts.toml'))
    assert.match(await refusal(certs, ['gone.example']), /leads to nothing/)
  })
})
