/** What the documentation points to is there: its own headings, files, scripts of npm, commands and settings. */
import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { COMMANDS } from '../../lib/commands/index.ts'
import { SETTINGS, variableOf } from '../../lib/settings/settings.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const PAGES = globSync(['*.md', '{lib,k8s,tests}/**/*.md'], { cwd: ROOT }).sort()
/** Files that hold commands for people, too. */
const WITH_COMMANDS = [...PAGES, ...globSync('k8s/**/*.{yaml,toml}', { cwd: ROOT })]
/** Flags of other programs, and of our own tools and commands, that are not settings. */
const OTHER_FLAGS =
  /^(?:dry-run|remove|json|help|silent|nodes|stages|runtimes|digests|results|plot|images|patterns|arch|debs|container-runtime|no-hooks|uninstall|register-with-taints)$/

const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')
const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }

/** The fragment that GitHub gives a heading. */
function fragmentOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
    .replaceAll(' ', '-')
}

/** The fragments by which a page's headings can be linked to. */
function fragmentsOf(path: string): ReadonlySet<string> {
  const prose = read(path).replaceAll(/^```[\s\S]*?^```$/gm, '')
  return new Set([...prose.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => fragmentOf(heading)))
}

for (const page of PAGES) {
  describe(page, () => {
    const text = read(page)
    const prose = text.replaceAll(/^```[\s\S]*?^```$/gm, '')

    it('has links to headings and files that are there', () => {
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

    it('names paths of this repository that are there', () => {
      const named = [...text.matchAll(/(?<![\w/@.-])((?:k8s|lib|tests|proto|\.ci)\/[\w./-]*[\w-])/g)].map(
        ([, path]) => path ?? '',
      )
      assert.deepEqual(
        named.filter((path) => !existsSync(join(ROOT, path))),
        [],
      )
    })

    it('names settings that exist', () => {
      const flags = [...prose.matchAll(/`--([a-z][a-z-]+)/g)].map(([, flag = '']) => flag)
      assert.deepEqual(
        flags.filter((flag) => !(flag in SETTINGS) && !OTHER_FLAGS.test(flag)),
        [],
      )
    })
  })
}

for (const page of WITH_COMMANDS) {
  it(`${page} runs scripts, commands and settings that exist`, () => {
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
