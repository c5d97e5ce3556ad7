import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { parse } from 'yaml'
import { notesOf } from '../../../.ci/release-notes.ts'

const read = (path: string) => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8')
const { version, scripts } = JSON.parse(read('package.json'))

describe('release', () => {
  it('has notes: what the changelog says of its version, and of no other', () => {
    const changelog =
      '# Changelog\n\nWords.\n\n## 0.2.0 (today)\n\n- New.\n\n### More\n\n- Old.\n\n## 0.1.0\n\n- First.\n'
    assert.equal(notesOf(changelog, '0.2.0'), '- New.\n\n### More\n\n- Old.\n')
    assert.equal(notesOf(changelog, '0.1.0'), '- First.\n')
    for (const [text, missing] of [
      [changelog, '0.2'],
      ['## 0.1.0', '0.1.0'],
      ['## 0.1.0\n\n## 0.0.1\n\n- x', '0.1.0'],
      ['', '0.1.0'],
    ] as const)
      assert.throws(() => notesOf(text, missing), /CHANGELOG\.md has no section/)
  })

  it('has something to say of the next version', () => {
    assert.notEqual(notesOf(read('CHANGELOG.md'), version), '')
  })

  it('is published by a workflow that runs scripts that are there, and may do no more than it needs', () => {
    const text = read('.github/workflows/release.yaml')
    const workflow = parse(text)
    assert.deepEqual(workflow.permissions, {}, 'no job has a right that it does not name')
    const run = [...text.matchAll(/\bnpm run ([\w:]+)/g)].map(([, script = '']) => script)
    assert.ok(run.includes('release'))
    assert.deepEqual(
      run.filter((script) => scripts[script] === undefined),
      [],
    )
    // What attests to the image looks for the registry's login there only, and skopeo keeps it elsewhere by itself.
    const steps: readonly { run?: string; with?: object }[] = workflow.jobs.publish.steps
    const pushes = steps.findIndex(({ with: inputs = {} }) => 'push-to-registry' in inputs)
    const logins = steps.findIndex(({ run = '' }) =>
      run.includes('export REGISTRY_AUTH_FILE=$HOME/.docker/config.json'),
    )
    assert.ok(logins >= 0 && logins < pushes)
    // What another account can move is no version: actions are named by commit, or are GitHub's own.
    const uses = [...text.matchAll(/\buses: (\S+)/g)].map(([, action = '']) => action)
    assert.deepEqual(
      uses.filter((action) => !/^actions\/|@[0-9a-f]{40}$/.test(action)),
      [],
    )
  })
})
