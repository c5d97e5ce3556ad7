/** Everything exists to which the documentation points: headings, files, npm scripts, commands and settings. */
import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { COMMANDS } from '../../lib/commands/index.ts'
import { SETTINGS, variableOf } from '../../lib/settings/settings.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const PAGES = globSync(['*.md', '{lib,k8s,tests}/**/*.md'], { cwd: ROOT }).sort()
/** Other files with commands for people. */
const WITH_COMMANDS = [...PAGES, ...globSync('k8s/**/*.{yaml,toml}', { cwd: ROOT })]
/** Flags of other programs, and of our own tools and commands, that are not settings. */
const OTHER_FLAGS =
  /^(?:dry-run|remove|json|help|version|silent|nodes|stages|runtimes|digests|results|plot|images|patterns|arch|debs|container-runtime|no-hooks|uninstall|register-with-taints)$/

const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')
const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }

/** The fragment that GitHub gives a heading. */
function fragmentOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
    .replaceAll(' ', '-')
}

/** The fragments of a page's headings, for links. */
function fragmentsOf(path: string): ReadonlySet<string> {
  const prose = read(path).replaceAll(/^```[\s\S]*?^```$/gm, '')
  return new Set([...prose.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => fragmentOf(heading)))
}

/** The pages of this repository that a page links to. */
function linkedFrom(page: string): string[] {
  return [...read(page).matchAll(/\]\((?!https:)([^)#\s]+\.md)(?:#[^)]*)?\)/g)].map(([, target = '']) =>
    join(dirname(page), target),
  )
}

it('README.md leads to every page, is short, and begins with links to its own headings', () => {
  const reached = new Set(['README.md'])
  for (const page of reached) for (const next of linkedFrom(page)) reached.add(next)
  assert.deepEqual(
    PAGES.filter((page) => !reached.has(page)),
    [],
  )
  const text = read('README.md')
  assert.ok(text.split('\n').length <= 200)
  const contents = text.slice(0, text.indexOf('\n## '))
  for (const fragment of fragmentsOf('README.md'))
    if (fragment !== 'swarmirror') assert.ok(contents.includes(`](#${fragment})`), fragment)
})

it('SECURITY.md names every attack that is measured', () => {
  const text = read('SECURITY.md')
  assert.deepEqual(
    globSync('tests/attacks/*.test.ts', { cwd: ROOT }).filter((path) => !text.includes(`\`${path}\``)),
    [],
  )
})

it('lib/commands/README.md has a row for every command', () => {
  const rows = [...read('lib/commands/README.md').matchAll(/^\| \[?`([a-z]+)`.*\|$/gm)].map(([, name]) => name)
  assert.deepEqual(
    rows,
    COMMANDS.map(({ name }) => name),
  )
})

for (const page of PAGES) {
  describe(page, () => {
    const text = read(page)
    const prose = text.replaceAll(/^```[\s\S]*?^```$/gm, '')

    it('has only links to existing headings and files', () => {
      const wrong = [...prose.matchAll(/\]\(([^)\s]+)\)/g)]
        .map(([, target = '']) => target)
        .filter((target) => !/^https:\/\//.test(target))
        .filter((target) => {
          const [file = '', fragment] = target.split('#')
          const path = file === '' ? page : join(dirname(page), file)
          return !existsSync(join(ROOT, path)) || (fragment !== undefined && !fragmentsOf(path).has(fragment))
        })
      assert.deepEqual(wrong, [])
    })

    it('names only existing paths of this repository', () => {
      const named = [...text.matchAll(/(?<![\w/@.-])((?:k8s|lib|tests|proto|\.ci)\/[\w./-]*[\w-])/g)].map(
        ([, path]) => path ?? '',
      )
      assert.deepEqual(
        named.filter((path) => !existsSync(join(ROOT, path))),
        [],
      )
    })

    it('names only existing settings', () => {
      const flags = [...prose.matchAll(/`--([a-z][a-z-]+)/g)].map(([, flag = '']) => flag)
      assert.deepEqual(
        flags.filter((flag) => !(flag in SETTINGS) && !OTHER_FLAGS.test(flag)),
        [],
      )
    })
  })
}

for (const page of WITH_COMMANDS) {
  it(`${page} uses only existing scripts, commands and settings`, () => {
    const text = read(page)
    const run = [...text.matchAll(/\bnpm run (?:--silent )?([\w:]+)/g)].map(([, script = '']) => script)
    assert.deepEqual(
      run.filter((script) => scripts[script] === undefined),
      [],
    )
    const commands = [
      ...text.matchAll(
        /(?:npm run (?:--silent )?(?:node|deno|bun) --|bin\/swarmirror|-- swarmirror|&& swarmirror) ([a-z]+)/g,
      ),
    ]
    const known = COMMANDS.map(({ name }) => name)
    assert.deepEqual(
      commands.map(([, command = '']) => command).filter((command) => !known.includes(command)),
      [],
    )
    const variables = Object.keys(SETTINGS).map(variableOf)
    assert.deepEqual(
      (text.match(/\bSWARMIRROR_\w+/g) ?? []).filter((variable) => !variables.includes(variable)),
      [],
    )
  })
}
