import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { HOSTS_FILES } from '../../../../lib/containerd/hosts/files.ts'
import { planRemove } from '../../../../lib/containerd/hosts/plan.ts'
import { withTemporaryDirectory } from '../../../fixtures/image.ts'
import { carryOut, write } from './planning.ts'

test('planWrite writes to each of several linked files in one directory; planRemove restores them', async () => {
  const texts = { 'docker.io': '# one\n', 'ghcr.io': '# two\n', 'quay.io': '# two\n' }
  await withTemporaryDirectory(async (directory) => {
    const [certs, shared] = [join(directory, 'certs.d'), join(directory, 'shared')]
    await mkdir(shared)
    for (const [registry, text] of Object.entries(texts)) {
      await mkdir(join(certs, registry), { recursive: true })
      await writeFile(join(shared, `${registry}.toml`), text)
      await symlink(join(shared, `${registry}.toml`), join(certs, registry, 'hosts.toml'))
    }
    const made = await write(certs, Object.keys(texts))
    assert.deepEqual([...new Set(Object.values(made))], ['update'])
    await carryOut(certs, await planRemove({ certsDir: certs }, HOSTS_FILES))
    const left = Object.fromEntries(
      await Promise.all(
        (await readdir(shared)).map(async (name) => [name, await readFile(join(shared, name), 'utf8')]),
      ),
    )
    assert.deepEqual(left, Object.fromEntries(Object.entries(texts).map(([name, text]) => [`${name}.toml`, text])))
  })
})
