import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { HOSTS_FILES, type HostsFiles } from '../../../../lib/containerd/hosts/files.ts'
import { mirrorEntryFor } from '../../../../lib/containerd/hosts/mirror-entry.ts'
import { applyChange, type Change, planRemove, planWrite } from '../../../../lib/containerd/hosts/plan.ts'
import { withTemporaryDirectory } from '../../../fixtures/image.ts'

const mirror = mirrorEntryFor({ host: '127.0.0.1', port: 5000 }, 'fallback')
const ORIGINAL = '# theirs\n[host."https://b"]\n'
const REGISTRIES = ['docker.io', 'ghcr.io']

class Killed extends Error {}

/** The file system of a process that is killed at one of its steps: nothing happens after that, not even tidying up. */
function killedAt(step: number): { files: HostsFiles; killed: () => boolean } {
  let left = step
  const changing = new Set(['makeDirectory', 'create', 'rename', 'unlink', 'removeEmptyDirectory'])
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

async function applyAll(changes: readonly Change[], files = HOSTS_FILES): Promise<void> {
  for (const change of changes) await applyChange(change, files)
}

async function planOf(certs: string, kind: 'write' | 'remove') {
  if (kind === 'remove') return await planRemove({ certsDir: certs }, HOSTS_FILES)
  return await planWrite({ certsDir: certs, registries: REGISTRIES, mirror }, HOSTS_FILES)
}

for (const [kind, next] of [
  ['write', ['write', 'remove']],
  ['remove', ['write', 'remove']],
  ['remove', ['remove']],
] as const) {
  test(`applyChange killed at any step of a ${kind} leaves each file old or new, and then ${next.join(' and ')} ends it`, async () => {
    let steps = 0
    for (let running = true; running; steps++) {
      await withTemporaryDirectory(async (certs) => {
        await mkdir(join(certs, 'docker.io'))
        await writeFile(join(certs, 'docker.io', 'hosts.toml'), ORIGINAL)
        if (kind === 'remove') await applyAll((await planOf(certs, 'write')).changes)
        const old = await textsOf(certs)
        const { changes } = await planOf(certs, kind)
        const fresh = changes.map(({ after }) => after)
        const { files, killed } = killedAt(steps)
        await applyAll(changes, files).catch((error: unknown) => {
          if (!(error instanceof Killed)) throw error
        })
        running = killed()
        for (const [index, text] of (await textsOf(certs)).entries()) {
          assert.ok(text === old[index] || text === fresh[index], `step ${steps}: ${REGISTRIES[index]} is ${text}`)
        }
        for (const kind of next) await applyAll((await planOf(certs, kind)).changes)
        // Without our file, the registry is as it was: an empty directory does nothing more.
        const left = (await readdir(certs, { recursive: true })).filter((name) => name !== 'ghcr.io')
        assert.deepEqual(left.sort(), ['docker.io', 'docker.io/hosts.toml'], `step ${steps}`)
        assert.equal(await readFile(join(certs, 'docker.io', 'hosts.toml'), 'utf8'), ORIGINAL)
      })
    }
    assert.ok(steps > 4, `${steps}`)
  })
}

test('applyChange leaves nothing beside a file that it cannot write', async () => {
  await withTemporaryDirectory(async (certs) => {
    await mkdir(join(certs, 'docker.io'))
    await writeFile(join(certs, 'docker.io', 'hosts.toml'), ORIGINAL)
    const rename = () => Promise.reject(new Error('no space left'))
    await assert.rejects(applyAll((await planOf(certs, 'write')).changes, { ...HOSTS_FILES, rename }), /no space left/)
    assert.deepEqual((await textsOf(certs))[0], ORIGINAL)
    assert.deepEqual(await readdir(join(certs, 'docker.io')), ['hosts.toml'])
  })
})

test('applyChange refuses to replace what others changed after it was looked at', async () => {
  await withTemporaryDirectory(async (certs) => {
    await mkdir(join(certs, 'docker.io'))
    const path = join(certs, 'docker.io', 'hosts.toml')
    await writeFile(path, ORIGINAL)
    const { changes } = await planOf(certs, 'write')
    await writeFile(path, `${ORIGINAL}# new\n`)
    await assert.rejects(applyAll(changes), /somebody changed it meanwhile/)
    assert.equal(await readFile(path, 'utf8'), `${ORIGINAL}# new\n`)
  })
})
