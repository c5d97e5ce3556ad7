import assert from 'node:assert/strict'
import { test } from 'node:test'
import { helpText, type SettingRow, settingRows } from '../../../lib/commands/help.ts'
import { COMMANDS } from '../../../lib/commands/index.ts'
import { SETTINGS, variableOf } from '../../../lib/settings/settings.ts'
import { partOf } from '../../fixtures/readme.ts'

test('helpText names every command and every flag with its variable, default and meaning', () => {
  const text = helpText(COMMANDS)
  for (const { name, summary } of COMMANDS)
    assert.match(text, new RegExp(`^  ${name} +${RegExp.escape(summary)}$`, 'm'))
  for (const [name, setting] of Object.entries(SETTINGS)) {
    const line = text.split('\n').find((candidate) => candidate.startsWith(`  --${name}, `))
    assert.ok(line?.includes(variableOf(name)), name)
    if (setting.default !== undefined) assert.ok(line?.endsWith(`(${setting.default})`), line)
    assert.ok(text.includes(setting.meaning), name)
  }
})

test('settingRows has one row a setting, none of them empty', () => {
  const rows = settingRows()
  assert.deepEqual(
    rows.map(({ flag }) => flag),
    Object.keys(SETTINGS).map((name) => `--${name}`),
  )
  for (const row of rows) for (const cell of Object.values(row)) assert.notEqual(cell, '', row.flag)
})

/** A table in Markdown, where a vertical bar ends a cell. */
function tableOf(rows: readonly SettingRow[]): string {
  const lines = rows.map(({ flag, variable, default: fallback, meaning }) =>
    [`\`${flag}\``, `\`${variable}\``, fallback, meaning].map((cell) => cell.replaceAll('|', '\\|')).join(' | '),
  )
  return ['flag | variable | default | meaning', '--- | --- | --- | ---', ...lines]
    .map((line) => `| ${line} |\n`)
    .join('')
}

test('lib/settings/README.md has the table of the settings as they are', () => {
  const right = tableOf(settingRows())
  assert.equal(`${partOf('lib/settings/README.md', 'settings')}\n`, right, `the table must be:\n${right}`)
})
