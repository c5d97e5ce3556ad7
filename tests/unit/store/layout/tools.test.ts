/** Layouts of real tools. Each test needs its tool, and is skipped without it. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { parseDigest } from '../../../../lib/oci/digest.ts'
import type { ContentStore } from '../../../../lib/store/store.ts'
import { readBody } from '../../../fixtures/body.ts'
import {
  digestOf,
  makeImage,
  makeIndex,
  REF_NAME,
  withTemporaryDirectory,
  writeLayout,
} from '../../../fixtures/image.ts'
import { heldKeys, never, tagged, withStoreAt } from '../../../fixtures/layout.ts'
import { waitFor } from '../../../fixtures/wait.ts'

const NAME = 'registry.example:5000/team/app:1.2'

type JsonEntry = { annotations?: Record<string, string> }

type Run = (command: string, ...args: string[]) => Promise<string>

/** Runs a test in its own directory, if the tool can be started. */
function toolTest(tool: string, what: string, body: (dir: string, run: Run) => Promise<void>): void {
  test(`layout store ${what} ${tool}`, async (t) => {
    const versions = await promisify(execFile)(tool, ['help']).catch((error: NodeJS.ErrnoException) => error)
    if (versions instanceof Error && versions.code === 'ENOENT') return t.skip(`${tool} is not installed`)
    await withTemporaryDirectory(async (dir) => {
      const env = { ...process.env, HOME: dir, STORAGE_DRIVER: 'vfs' }
      const run: Run = async (command, ...args) => {
        const { stdout } = await promisify(execFile)(command, args, { cwd: dir, env, timeout: 60_000 })
        return stdout.trim()
      }
      await body(dir, run)
    })
  })
}

/** Reads everything that the store announces, and checks all contents against their digests. */
async function checkAll(store: ContentStore): Promise<{ digests: number; tags: number }> {
  const keys = await heldKeys(store)
  const digests = keys.filter((key) => !key.includes('/')).map(parseDigest)
  for (const digest of digests) {
    const body = (await store.open(digest, undefined, never)) ?? assert.fail(`${digest} is told and not held`)
    assert.equal(digestOf(await readBody(body)), digest)
  }
  return { digests: digests.length, tags: keys.length - digests.length }
}

/** Checks that a layout serves one image by name, with at least a manifest and a config or blob. */
async function checkNamed(layout: string, digests: number): Promise<void> {
  await withStoreAt(layout, async (store) => {
    const digest = (await store.resolve(tagged(NAME), never)) ?? assert.fail('the name does not resolve')
    assert.match((await store.describe(digest, never))?.mediaType ?? '', /^application\/vnd\.oci\.image\./)
    assert.deepEqual(await checkAll(store), { digests, tags: 1 })
  })
}

toolTest('umoci', 'serves by name what is written by', async (dir, run) => {
  await run('umoci', 'init', '--layout', 'layout')
  await run('umoci', 'new', '--image', `layout:${NAME}`)
  await checkNamed(join(dir, 'layout'), 2)
})

toolTest('skopeo', 'serves by name what is written by', async (dir, run) => {
  const image = makeImage()
  await writeLayout(join(dir, 'source'), [{ image, names: ['source'] }])
  await run('skopeo', 'copy', 'oci:source:source', `oci:layout:${NAME}`)
  await checkNamed(join(dir, 'layout'), image.contents.length)
})

toolTest('skopeo', 'serves every platform of an index that is copied by', async (dir, run) => {
  const index = makeIndex([
    makeImage({ seed: 1 }),
    makeImage({ seed: 2, platform: { os: 'linux', architecture: 'arm64' } }),
  ])
  await writeLayout(join(dir, 'source'), [{ image: index, names: ['source'] }])
  await run('skopeo', 'copy', '--all', 'oci:source:source', `oci:layout:${NAME}`)
  await checkNamed(join(dir, 'layout'), index.contents.length)
})

toolTest('buildah', 'serves by name what is written by', async (dir, run) => {
  await writeFile(join(dir, 'hello.txt'), 'hello')
  const storage = ['--root', join(dir, 'root'), '--runroot', join(dir, 'runroot')]
  const container = await run('buildah', ...storage, 'from', 'scratch')
  await run('buildah', ...storage, 'copy', container, 'hello.txt', '/hello.txt')
  await run('buildah', ...storage, 'commit', container, `oci:layout:${NAME}`)
  await run('buildah', ...storage, 'rm', container)
  await checkNamed(join(dir, 'layout'), 3)
})

toolTest('oras', 'serves by name what is written and tagged by', async (dir, run) => {
  await writeFile(join(dir, 'hello.txt'), 'hello')
  await run('oras', 'push', '--oci-layout', 'layout:1', 'hello.txt')
  await run('oras', 'tag', '--oci-layout', 'layout:1', NAME)
  // Manifest, the empty config of an artifact, and the file.
  await checkNamed(join(dir, 'layout'), 3)
})

toolTest('skopeo', 'sees an image that is added, and one that is replaced, by', async (dir, run) => {
  await writeLayout(join(dir, 'layout'), [])
  const [one, two] = [makeImage({ seed: 1 }), makeImage({ seed: 2 })]
  await writeLayout(join(dir, 'one'), [{ image: one, names: ['x'] }])
  await writeLayout(join(dir, 'two'), [{ image: two, names: ['x'] }])
  await withStoreAt(
    join(dir, 'layout'),
    async (store) => {
      let digests = 0
      for (const [name, image] of [
        ['one', one],
        ['two', two],
      ] as const) {
        await run('skopeo', 'copy', `oci:${name}:x`, `oci:layout:${NAME}`)
        const { manifests } = JSON.parse(await readFile(join(dir, 'layout', 'index.json'), 'utf8'))
        const { digest } = manifests.find(({ annotations }: JsonEntry) => annotations?.[REF_NAME] === NAME)
        await waitFor(`image ${name}`, async () => (await store.resolve(tagged(NAME), never)) === digest)
        // skopeo compresses the layers, so only their number is known. It takes away only the name of the earlier image.
        digests += image.contents.length
        assert.deepEqual(await checkAll(store), { digests, tags: 1 })
      }
    },
    { lookInterval: 600_000 },
  )
})
