import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

interface Entry {
  readonly integrity?: string
  readonly hasInstallScript?: boolean
  readonly os?: readonly string[]
}

const read = (name: string) => JSON.parse(readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8'))
const { packages } = read('package-lock.json') as { readonly packages: Readonly<Record<string, Entry>> }

test('the lock file has the integrity of everything that `npm ci` may download on Linux, whatever the processor', () => {
  const onLinux = Object.entries(packages).filter(([path, { os }]) => path !== '' && (os?.includes('linux') ?? true))
  assert.ok(onLinux.length > 100)
  const unchecked = onLinux.filter(([, { integrity }]) => !/^sha512-/.test(integrity ?? '')).map(([path]) => path)
  assert.deepEqual(unchecked, [])
})

test('npm from 12 on runs the install scripts that are needed: without its own, bun does not start', () => {
  const { allowScripts } = read('package.json') as { readonly allowScripts: Readonly<Record<string, boolean>> }
  const scripts = Object.entries(packages).filter(([path, { hasInstallScript }]) => path !== '' && hasInstallScript)
  const onLinux = scripts.filter(([, { os }]) => os?.includes('linux') ?? true)
  assert.deepEqual(onLinux.map(([path]) => path.replace('node_modules/', '')).sort(), Object.keys(allowScripts).sort())
})
