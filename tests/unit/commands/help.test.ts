import assert from 'node:assert/strict'
import { test } from 'node:test'
import { commandHelp, helpText } from '../../../lib/commands/help.ts'
import { COMMANDS } from '../../../lib/commands/index.ts'
import { readCommandLine } from '../../../lib/settings/read.ts'
import { SETTINGS, type SettingDeclaration, variableOf } from '../../../lib/settings/settings.ts'
import { partOf } from '../../fixtures/readme.ts'

/** A text on one line, whatever its lines were. */
const inOneLine = (text: string) => text.replaceAll(/\s+/g, ' ')

test('helpText names every command', () => {
  const text = helpText('npm run node --', COMMANDS)
  assert.match(text, /^Usage: npm run node -- \[COMMAND\] \[FLAGS\]$/m)
  for (const { name, summary } of COMMANDS)
    assert.match(text, new RegExp(`^  ${name} +${RegExp.escape(summary)}$`, 'm'))
})

test('the help of serve names every setting with its variable, default and meaning, below a heading', () => {
  const serve = COMMANDS.find(({ name }) => name === 'serve')
  assert.ok(serve)
  const text = commandHelp('swarmirror', serve)
  for (const [name, setting] of Object.entries<SettingDeclaration>(SETTINGS)) {
    const line = text.split('\n').find((candidate) => candidate.startsWith(`  --${name} `))
    assert.ok(line?.includes(variableOf(name)), name)
    if (setting.default !== undefined) assert.ok(line?.endsWith(`(default: ${setting.default})`), line)
    assert.ok(inOneLine(text).includes(setting.meaning), name)
  }
  const headings = ['Doors', 'The swarm', 'containerd', 'Which images are mirrored, and who resolves']
  assert.deepEqual(
    [...text.matchAll(/^(\w.*):$/gm)].map(([, heading]) => heading),
    [...headings, 'Transfers between nodes', 'Other'],
  )
})

test('commandHelp names the flags of a command, the settings that matter to it and an example, and no others', () => {
  for (const command of COMMANDS) {
    const { name, summary, example = '', switches = {}, settings = [] } = command
    const text = commandHelp('/usr/bin/swarmirror', command)
    assert.ok(text.startsWith(`swarmirror ${name}: ${summary}\n\nUsage:   /usr/bin/swarmirror ${name}`), text)
    assert.ok(text.includes(`\nExample: ${`/usr/bin/swarmirror ${name} ${example}`.trimEnd()}\n`), text)
    const flags = [...text.matchAll(/^ {2}--([a-z-]+)/gm)].map(([, flag]) => flag)
    assert.deepEqual(new Set(flags), new Set([...Object.keys(switches), ...settings]))
    assert.equal(flags.length, new Set(flags).size)
  }
})

test('examples of commands are command lines that are accepted', () => {
  for (const { example = '', switches = {}, settings } of COMMANDS) {
    if (settings === undefined) continue
    const sources = { flags: example.split(' '), environment: {}, readsKey: false }
    assert.deepEqual(
      readCommandLine({ ...sources, opensDoors: !('json' in switches || 'remove' in switches) }, switches).warnings,
      [],
    )
  }
})

/** The settings as a table in Markdown, where a vertical bar ends a cell. */
function settingsTable(): string {
  const declared: [string, SettingDeclaration][] = Object.entries(SETTINGS)
  const lines = declared.map(([name, { default: fallback, shownDefault = 'none', meaning }]) => {
    assert.notEqual(meaning, '', name)
    const cells = [`\`--${name}\``, `\`${variableOf(name)}\``, fallback ?? shownDefault, meaning]
    return cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')
  })
  return ['flag | variable | default | meaning', '--- | --- | --- | ---', ...lines]
    .map((line) => `| ${line} |\n`)
    .join('')
}

test('lib/settings/README.md has the table of the settings as they are', () => {
  const right = settingsTable()
  assert.equal(`${partOf('lib/settings/README.md', 'settings')}\n`, right, `the table must be:\n${right}`)
})
