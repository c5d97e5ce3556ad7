/** What the README says of the page is true. */
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { SETTINGS } from '../../../lib/settings/settings.ts'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const README = readFileSync(join(ROOT, 'README.md'), 'utf8')

test('the README names only findings that there are, and settings, where it says what to do', () => {
  const table = /<!-- troubleshooting -->([\s\S]*?)<!-- \/troubleshooting -->/.exec(README)?.[1] ?? ''
  const sources = globSync('lib/{check,hosts}/**/*.ts', { cwd: ROOT }).map((file) =>
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

test('the pictures of the README are there, are of text, and hold neither a script nor anything from elsewhere', () => {
  const pictures = [...README.matchAll(/!\[[^\]]+\]\(([^)]+)\)/g)].map(([, path]) => path ?? '')
  assert.deepEqual(
    pictures,
    ['flow', 'page', 'rollout'].map((name) => `lib/page/pictures/${name}.svg`),
  )
  for (const path of pictures) {
    const svg = readFileSync(join(ROOT, path), 'utf8')
    assert.match(svg, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"[^>]*role="img">\s*<title>/)
    assert.match(svg, /prefers-color-scheme: dark/)
    assert.doesNotMatch(svg.replaceAll(/xmlns="[^"]+"/g, ''), /<script|\son[a-z]+=|https?:|data:|base64/)
  }
})
