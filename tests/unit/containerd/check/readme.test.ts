import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url))
const README = readFileSync(join(ROOT, 'lib/containerd/check/README.md'), 'utf8')

test('the README names every finding that there is, and no other', () => {
  const [, table = ''] = /\n\| finding \| what it looks at \|\n((?:\|.*\n)+)/.exec(README) ?? []
  const named = new Set(
    [...table.matchAll(/^\| (.*?) \|/gm)].flatMap(([, cell = '']) => cell.match(/[a-z*-]{2,}/g) ?? []),
  )
  const found = new Set(
    globSync('lib/{containerd/{check,hosts},commands,mirror}/*.ts', { cwd: ROOT })
      .filter((file) => !file.endsWith('distributions.ts'))
      .flatMap((file) => [...readFileSync(join(ROOT, file), 'utf8').matchAll(/\bid: '([a-z-]+)'/g)])
      .map(([, id = '']) => id),
  )
  assert.ok(found.size > 20, `only ${found.size} findings`)
  const covers = (name: string, id: string) => name === id || (name.endsWith('*') && id.startsWith(name.slice(0, -1)))
  const missing = [...found].filter((id) => ![...named].some((name) => covers(name, id)))
  const invented = [...named].filter((name) => name !== '---' && ![...found].some((id) => covers(name, id)))
  assert.deepEqual({ missing, invented }, { missing: [], invented: [] })
})
