import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { applyChanges, HostsWriteError } from '../../../../lib/containerd/hosts/apply.ts'
import { HOSTS_FILES, type HostsFiles } from '../../../../lib/containerd/hosts/files.ts'
import { mirrorEntryFor } from '../../../../lib/containerd/hosts/mirror-entry.ts'
import { planRemove, planWrite } from '../../../../lib/containerd/hosts/plan.ts'
import { withTemporaryDirectory } from '../../../fixtures/image.ts'

const mirror = mirrorEntryFor({ host: '127.0.0.1', port: 5000 }, 'fallback', undefined)
const ORIGINAL = '# theirs\n[host."https://b"]\n'
const REGISTRIES = ['docker.io', 'ghcr.io']

class Killed extends Error {}

/** The file system of a process that is killed at one of its steps: nothing happens after that, not even tidying up. */
function killedAt(step: number): { files: HostsFiles; killed: () => boolean } {
  let left = step
  const changing = new Set(['makeDirectory', 'create', 'rename', 'unlink', 'removeDirectory', 'syncDirectory'])
  const wrapped = Object.entries(HOSTS_FILES).map(([name, work]) => {
    if (!changing.has(name)) return [name, work]
    const step = async (...args: unknown[]) => {
      left -= 1
      if (left >= 0) return await (work as (...args: unknown[]) => Promise<unknown>)(...args)
      // The step at which the process is killed is half done, if that is possible.
      if (left === -1 && name === 'create') await writeFile(args[0] as string, (args[1] as Buffer).subarray(0, 20))
      throw new Killed(name)
    }
    return [name, step]
  })
  return { files: Object.fromEntries(wrapped) as HostsFiles, killed: () => left < 0 }
}

async function textsOf(certs: string): Promise<(string | undefined)[]> {
  const read = (registry: string) => HOSTS_FILES.read(join(certs, registry, 'hosts.toml'))
  return (await Promise.all(REGISTRIES.map(read))).map((bytes) => bytes?.toString('utf8'))
}

async function planOf(certs: string, kind: 'write' | 'remove') {
  if (kind === 'remove') return await planRemove({ certsDir: certs }, HOSTS_FILES)
  return await planWrite({ certsDir: certs, registries: REGISTRIES, mirror, version: undefined }, HOSTS_FILES)
}

for (const [kind, next] of [
  ['write', ['write', 'remove']],
  ['remove', ['write', 'remove']],
  ['remove', ['remove']],
] as const) {
  test(`applyChanges killed at any step of a ${kind} leaves each file old or new, and ${next.join(' and ')} then completes it`, async () => {
    let steps = 0
    for (let running = true; running; steps++) {
      await withTemporaryDirectory(async (certs) => {
        await mkdir(join(certs, 'docker.io'))
        await writeFile(join(certs, 'docker.io', 'hosts.toml'), ORIGINAL)
        if (kind === 'remove') await applyChanges(certs, (await planOf(certs, 'write')).changes, HOSTS_FILES)
        const old = await textsOf(certs)
        const { changes } = await planOf(certs, kind)
        const fresh = changes.map(({ after }) => after)
        const { files, killed } = killedAt(steps)
        await applyChanges(certs, changes, files).catch((error: unknown) => {
          const cause = error instanceof HostsWriteError ? error.cause : error
          if (!(cause instanceof Killed)) throw error
        })
        running = killed()
        for (const [index, text] of (await textsOf(certs)).entries()) {
          assert.ok(text === old[index] || text === fresh[index], `step ${steps}: ${REGISTRIES[index]} is ${text}`)
        }
        // An empty directory would take the registry away from _default.
        const directories = (await readdir(certs)).filter((name) => !name.startsWith('.'))
        for (const name of directories) {
          const left = (await readdir(join(certs, name))).includes('hosts.toml')
          assert.ok(left, `step ${steps}: ${name} exists without a hosts.toml`)
        }
        for (const kind of next) await applyChanges(certs, (await planOf(certs, kind)).changes, HOSTS_FILES)
        assert.deepEqual(
          (await readdir(certs, { recursive: true })).sort(),
          ['docker.io', 'docker.io/hosts.toml'],
          `step ${steps}`,
        )
        assert.equal(await readFile(join(certs, 'docker.io', 'hosts.toml'), 'utf8'), ORIGINAL)
      })
    }
    assert.ok(steps > 4, `${steps}`)
  })
}

test('applyChanges reports what it did and what not when a write fails, and leaves no temporary file', async () => {
  await withTemporaryDirectory(async (certs) => {
    for (const name of REGISTRIES) {
      await mkdir(join(certs, name))
      await writeFile(join(certs, name, 'hosts.toml'), ORIGINAL)
    }
    const { changes } = await planOf(certs, 'write')
    const files: HostsFiles = {
      ...HOSTS_FILES,
      rename: async (from, to) => {
        if (to.includes('ghcr.io')) throw new Error('no space left')
        await HOSTS_FILES.rename(from, to)
      },
    }
    await assert.rejects(applyChanges(certs, changes, files), (error) => {
      assert.ok(error instanceof HostsWriteError)
      assert.match(error.message, /ghcr\.io\/hosts\.toml: no space left/)
      assert.deepEqual(
        error.done.map(({ path }) => path),
        [join(certs, 'docker.io', 'hosts.toml')],
      )
      assert.deepEqual(error.untouched, [])
      return true
    })
    assert.deepEqual((await textsOf(certs))[1], ORIGINAL)
    assert.deepEqual(
      (await readdir(join(certs, 'ghcr.io'))).filter((name) => name.startsWith('.')),
      [],
    )
  })
})

test("applyChanges removes a directory that cannot be moved, such as one of an overlay's lower layer", async () => {
  await withTemporaryDirectory(async (certs) => {
    await applyChanges(certs, (await planOf(certs, 'write')).changes, HOSTS_FILES)
    const files: HostsFiles = {
      ...HOSTS_FILES,
      rename: async (from, to) => {
        if (REGISTRIES.some((name) => from === join(certs, name))) {
          throw Object.assign(new Error('EXDEV: cross-device link not permitted'), { code: 'EXDEV' })
        }
        await HOSTS_FILES.rename(from, to)
      },
    }
    await applyChanges(certs, (await planOf(certs, 'remove')).changes, files)
    assert.deepEqual(await readdir(certs), [])
  })
})

test('applyChanges refuses to replace a file that others changed after we read it', async () => {
  await withTemporaryDirectory(async (certs) => {
    await mkdir(join(certs, 'docker.io'))
    const path = join(certs, 'docker.io', 'hosts.toml')
    await writeFile(path, ORIGINAL)
    const { changes } = await planOf(certs, 'write')
    await writeFile(path, `${ORIGINAL}# new\n`)
    await assert.rejects(applyChanges(certs, changes, HOSTS_FILES), /somebody changed it meanwhile/)
    assert.equal(await readFile(path, 'utf8'), `${ORIGINAL}# new\n`)
  })
})
