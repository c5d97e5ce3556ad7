import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { makeImage } from '../../lib/oci/make-image.ts'
import { runtimeName } from '../../lib/platform/runtime.ts'
import { writeLayout } from '../../lib/store/layout/writer.ts'
import { startMirrorProcess } from '../fixtures/mirror-process.ts'
import { waitFor } from '../fixtures/wait.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const BIN = fileURLToPath(new URL('../../node_modules/.bin/', import.meta.url))
const BUILD = fileURLToPath(new URL('../../.ci/build.ts', import.meta.url))
/** Milliseconds that a mirror may take to start or to stop on a loaded machine. */
const LIMIT = 30_000

const skip = runtimeName === 'node' ? false : 'starts all three runtimes by itself, so it runs under Node only'

describe('npm run build', { skip }, () => {
  let dir = ''
  const image = makeImage({ layers: 2, layerSize: 300_000 })
  const tag = '/v2/built/app/manifests/1?ns=registry.example'

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'swarmirror-build-'))
    await promisify(execFile)(join(BIN, 'bun'), [BUILD, join(dir, 'dist')])
    await writeLayout(join(dir, 'full'), [{ image, names: ['registry.example/built/app:1'] }])
    await writeLayout(join(dir, 'empty'), [])
  })
  after(() => rm(dir, { recursive: true, force: true }))

  it('makes one ESM file, its addon, one executable and the notices of others, and nothing else', async () => {
    const made = ['THIRD-PARTY-NOTICES', 'sodium-native.node', 'swarmirror', 'swarmirror.mjs']
    assert.deepEqual((await readdir(join(dir, 'dist'))).sort(), made)
  })

  it('passes on the license of every package that is in it', async () => {
    const notices = await readFile(join(dir, 'dist', 'THIRD-PARTY-NOTICES'), 'utf8')
    const { dependencies } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'))
    // hyperdht comes with hyperswarm, and dependencies of dependencies must be there as well.
    for (const name of [...Object.keys(dependencies), 'dht-rpc', 'noise-handshake', 'libsodium', 'Bun'])
      assert.match(notices, new RegExp(`^${name}[ ,].*\\(.+\\)$`, 'm'))
    for (const text of [
      /Copyright 2008 Google Inc/,
      /Copyright [-\d]+ The Connect Authors/,
      /Apache License\s+Version 2\.0/,
    ])
      assert.match(notices, text)
    const absent = ['udx-native', 'bare-fs', 'typescript', 'esbuild']
    for (const name of absent) assert.doesNotMatch(notices, new RegExp(`^${name} `, 'm'))
  })

  const file =
    (...runtime: readonly [string, ...string[]]) =>
    (dist: string) =>
      [...runtime, join(dist, 'swarmirror.mjs')] as unknown as [string, ...string[]]
  const products: readonly [string, (dist: string) => [string, ...string[]]][] = [
    ['the file on Node', file(join(BIN, 'node'))],
    ['the file on Deno', file(join(BIN, 'deno'), 'run', '--allow-all')],
    ['the file on Bun', file(join(BIN, 'bun'))],
    ['the executable', (dist) => [join(dist, 'swarmirror')]],
  ]
  for (const [name, command] of products) {
    it(`starts, serves a peer's content and stops: ${name}`, async () => {
      await using mirrors = new AsyncDisposableStack()
      const start = async (layout: string, bootstrap: readonly string[]) => {
        const doors = ['--listen', '--peer-listen', '--admin-listen'].flatMap((door) => [door, '127.0.0.1:0'])
        const flags = [
          '--store',
          `oci-layout:${join(dir, layout)}`,
          '--lookup-timeout',
          '2s',
          '--resolve',
          'swarm',
          ...doors,
          ...bootstrap,
        ]
        const mirror = await startMirrorProcess(command(join(dir, 'dist')), flags, {}, AbortSignal.timeout(LIMIT))
        mirrors.defer(() => mirror.kill())
        return mirror
      }
      const holder = await start('full', [])
      const asker = await start('empty', ['--bootstrap', holder.peer])
      const manifest = await waitFor('the tag is found', async () => {
        const answer = await fetch(`http://${asker.registry}${tag}`)
        if (answer.ok) return answer
        await answer.body?.cancel()
        return undefined
      })
      assert.equal(manifest.headers.get('x-swarmirror-source'), 'peer')
      assert.equal(manifest.headers.get('docker-content-digest'), image.target.digest)
      await manifest.arrayBuffer()
      for (const { descriptor, bytes } of image.contents.slice(1)) {
        const answer = await fetch(
          `http://${asker.registry}/v2/built/app/blobs/${descriptor.digest}?ns=registry.example`,
        )
        assert.deepEqual(Buffer.from(await answer.arrayBuffer()), Buffer.from(bytes))
      }
      assert.equal(await holder.stop(AbortSignal.timeout(LIMIT)), 0)
      assert.equal(await asker.stop(AbortSignal.timeout(LIMIT)), 0)
    })
  }
})
