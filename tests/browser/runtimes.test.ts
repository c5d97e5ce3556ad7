/** The page as each runtime serves it, from source and from what `npm run build` makes: its script is made at run time. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { makeImage, withTemporaryDirectory, writeLayout } from '../fixtures/image.ts'
import { startMirrorProcess } from '../fixtures/mirror-process.ts'
import { BROWSER_PATIENCE, openPage, skip, trace, withBrowser } from './browser.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const bin = (name: string) => join(ROOT, 'node_modules', '.bin', name)
const MAIN = join(ROOT, 'main.ts')

describe('page, as it is served', { skip }, () => {
  const done = Promise.withResolvers<void>()
  let dist = ''
  let over: Promise<void> | undefined

  before(async () => {
    const built = Promise.withResolvers<void>()
    over = withTemporaryDirectory(async (dir) => {
      dist = join(dir, 'dist')
      await promisify(execFile)(bin('bun'), [join(ROOT, '.ci/build.ts'), dist])
      built.resolve()
      await done.promise
    })
    await Promise.race([built.promise, over])
  })
  after(async () => {
    done.resolve()
    await over
  })

  const bundle = () => join(dist, 'swarmirror.mjs')
  const programs: readonly [string, () => [string, ...string[]]][] = [
    ['from source on Node', () => [bin('node'), MAIN]],
    ['from source on Deno', () => [bin('deno'), 'run', '--allow-all', MAIN]],
    ['from source on Bun', () => [bin('bun'), MAIN]],
    ['by the single file on Node', () => [bin('node'), bundle()]],
    ['by the single file on Deno', () => [bin('deno'), 'run', '--allow-all', bundle()]],
    ['by the single file on Bun', () => [bin('bun'), bundle()]],
    ['by the executable', () => [join(dist, 'swarmirror')]],
  ]
  for (const [name, command] of programs) {
    it(`shows that the mirror is ready, and a trace: ${name}`, async () => {
      await withTemporaryDirectory(async (dir) => {
        await writeLayout(dir, [{ image: makeImage({ layers: 1 }), names: ['registry.example/team/app:1'] }])
        const doors = ['--listen', '--peer-listen', '--admin-listen'].flatMap((door) => [door, '127.0.0.1:0'])
        const flags = ['--store', `oci-layout:${dir}`, '--resolve', 'swarm', ...doors]
        const mirror = await startMirrorProcess(command(), flags, {}, AbortSignal.timeout(BROWSER_PATIENCE))
        try {
          await withBrowser(async (browser) => {
            const open = await openPage(browser, `http://${mirror.admin}/`)
            await open.textOf('#state', /^ready$/)
            assert.match(await open.textOf('#held', /team/), /registry\.example\/team\/app:1/)
            assert.match(await trace(open, 'registry.example/team/app:1'), /Of 4 parts, 4 held here/)
            assert.deepEqual(open.problems, [])
          })
          // Nothing of the page keeps the mirror from ending: a browser has just had connections to it.
          assert.equal(await mirror.stop(AbortSignal.timeout(BROWSER_PATIENCE)), 0)
        } finally {
          await mirror.kill()
        }
      })
    })
  }
})
