/** Checks what the documentation says about the page, and its pictures. */
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { SETTINGS } from '../../../lib/settings/settings.ts'
import { page, partOf } from '../../fixtures/readme.ts'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))

test('the troubleshooting table names only findings and settings that exist', () => {
  const table = partOf('lib/containerd/check/TROUBLESHOOTING.md', 'troubleshooting')
  const sources = globSync('lib/{containerd/{check,hosts},commands,mirror}/**/*.ts', { cwd: ROOT }).map((file) =>
    readFileSync(join(ROOT, file), 'utf8'),
  )
  const findings = [...table.matchAll(/`([a-z]+(?:-[a-z]+)+|clock|ports)`/g)].map(([, id]) => id)
  assert.ok(findings.length >= 10, 'a table with findings')
  for (const id of findings)
    assert.ok(
      sources.some((source) => source.includes(`'${id}'`)),
      `no finding ${id}`,
    )
  const flags = [...table.matchAll(/`--([a-z-]+)/g)].map(([, flag]) => flag ?? '')
  assert.ok(flags.length >= 5)
  for (const flag of flags) assert.ok(flag in SETTINGS, `no setting --${flag}`)
})

test('the pictures of the documentation are there, are of text, and hold neither a script nor anything from elsewhere', () => {
  const shown = ['README.md', 'lib/page/README.md'].flatMap((path) =>
    [...page(path).matchAll(/!\[[^\]]+\]\((?:[^)]*\/)?([^)/]+)\)/g)].map(([, file]) => file ?? ''),
  )
  assert.deepEqual(shown, ['flow.svg', 'page.svg'])
  for (const file of shown) {
    const svg = page(`lib/page/pictures/${file}`)
    assert.match(svg, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"[^>]*role="img">\s*<title>/)
    assert.match(svg, /prefers-color-scheme: dark/)
    assert.doesNotMatch(svg.replaceAll(/xmlns="[^"]+"/g, ''), /<script|\son[a-z]+=|https?:|data:|base64/)
  }
})
