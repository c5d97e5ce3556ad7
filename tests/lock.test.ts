import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

interface Entry {
  readonly integrity?: string
  readonly os?: readonly string[]
}

const { packages } = JSON.parse(readFileSync(new URL('../package-lock.json', import.meta.url), 'utf8')) as {
  readonly packages: Readonly<Record<string, Entry>>
}

test('the lock file has the integrity of everything that `npm ci` may download on Linux, whatever the processor', () => {
  const onLinux = Object.entries(packages).filter(([path, { os }]) => path !== '' && (os?.includes('linux') ?? true))
  assert.ok(onLinux.length > 100)
  const unchecked = onLinux.filter(([, { integrity }]) => !/^sha512-/.test(integrity ?? '')).map(([path]) => path)
  assert.deepEqual(unchecked, [])
})
