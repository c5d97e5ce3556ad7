import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { applyEdits, planRemoval, planSetting } from '../../../lib/toml/patch.ts'
import { lookup, parseToml } from '../../../lib/toml/toml.ts'

const PATH = ['plugins', 'io.x', 'registry', 'config_path'] as const

function valueIn(text: string, path: readonly string[] = PATH): unknown {
  return lookup(parseToml(text), ...path)?.value
}

describe('planSetting', () => {
  it('changes a value in its line and keeps what else is there', () => {
    const text = '[plugins."io.x".registry] # here\n\tconfig_path = \'/old\' # why\n'
    const edits = planSetting(text, PATH, '/new') ?? assert.fail()
    assert.deepEqual(edits, [{ kind: 'replace', from: 2, to: 2, lines: ['\tconfig_path = "/new" # why'] }])
    assert.equal(applyEdits(text, edits), '[plugins."io.x".registry] # here\n\tconfig_path = "/new" # why\n')
  })

  it('changes a list, in place of all of its lines', () => {
    for (const text of ['a = ["x", "y"] # c\nb = 1\n', 'a = [\n  "x", # x\n  "y",\n] # c\nb = 1\n']) {
      assert.equal(applyEdits(text, planSetting(text, ['a'], ['y']) ?? assert.fail()), 'a = ["y"] # c\nb = 1\n')
    }
    assert.equal(applyEdits('a = ["x"]\n', planSetting('a = ["x"]\n', ['a'], []) ?? assert.fail()), 'a = []\n')
  })

  it('adds a key below the header of its table, indented as its neighbours', () => {
    const text = '[plugins."io.x".registry]\n    other = 1\n[last]\n'
    const edits = planSetting(text, PATH, '/new') ?? assert.fail()
    assert.deepEqual(edits, [{ kind: 'insert', after: 1, lines: ['    config_path = "/new"'] }])
    assert.equal(valueIn(applyEdits(text, edits)), '/new')
  })

  it('adds a table at the end where there is only one below it', () => {
    const text = '[plugins."io.x".registry.headers]\nx = ["y"]'
    const edits = planSetting(text, PATH, '/new') ?? assert.fail()
    assert.equal(
      applyEdits(text, edits),
      '[plugins."io.x".registry.headers]\nx = ["y"]\n\n[plugins."io.x".registry]\n  config_path = "/new"\n',
    )
  })

  it('changes a value within an inline table', () => {
    const text = 'plugins."io.x" = { registry = { config_path = "/old", other = 1 }, z = 1 } # c\n'
    const edits = planSetting(text, PATH, '/new') ?? assert.fail()
    assert.equal(applyEdits(text, edits), text.replace('/old', '/new'))
  })

  it('keeps the ends of lines', () => {
    const edits = planSetting('a = 1\r\n', PATH, '/new') ?? assert.fail()
    assert.equal(applyEdits('a = 1\r\n', edits).replaceAll('\r\n', '').includes('\n'), false)
  })

  for (const text of ['plugins = { }\n', 'plugins."io.x" = { registry = { } }\n', '[[plugins]]\n', 'broken = [\n']) {
    it(`plans nothing for ${JSON.stringify(text)}`, () => assert.equal(planSetting(text, PATH, '/new'), undefined))
  }

  it('does what it plans, and nothing else, on any of these files', () => {
    const line = fc.constantFrom(
      ...[
        '[plugins]',
        '[plugins."io.x"]',
        "[plugins.'io.x'.registry]",
        '[plugins."io.x".registry.mirrors.a]',
        '[z]',
        '# c',
      ],
      ...[
        'config_path = "/old"',
        'registry.config_path = ""',
        'registry = { config_path = "/i" }',
        'k = """\nx\n"""',
        '',
      ],
      ...['plugins."io.x".registry.config_path = "/d"', '  other = [\n 1,\n]', 'config_path = """/m"""'],
    )
    let planned = 0
    fc.assert(
      fc.property(fc.array(line, { maxLength: 8 }), (lines) => {
        const text = lines.join('\n')
        const edits = planSetting(text, PATH, '/new')
        if (edits === undefined) return
        planned++
        const after = applyEdits(text, edits)
        assert.equal(valueIn(after), '/new')
        // With the old value put back, or the key taken away, the rest is as it was.
        const others = (source: string) => source.split('\n').filter((entry) => !/config_path|^\s*$/.test(entry))
        const added = ['[plugins."io.x".registry]']
        const rest = others(after)
        if (edits[0]?.kind === 'append') assert.deepEqual(rest.splice(-1), added)
        assert.deepEqual(rest, others(text))
      }),
      { numRuns: 1_000 },
    )
    assert.ok(planned > 50, `only ${planned} were planned`)
  })
})

describe('planRemoval', () => {
  it('takes a table, its values and all tables in it away', () => {
    const text = [
      '[r]',
      'a = 1',
      '[r.mirrors]',
      '[r.mirrors."x"]',
      '  endpoint = [',
      '    "http://x",',
      '  ]',
      '# stays',
      '[z]',
      'b = 1',
      '',
    ].join('\n')
    const edits = planRemoval(text, ['r', 'mirrors']) ?? assert.fail()
    assert.equal(applyEdits(text, edits), '[r]\na = 1\n# stays\n[z]\nb = 1\n')
  })

  it('takes dotted and inline forms away', () => {
    for (const text of ['[r]\nmirrors.x.endpoint = ["y"]\n', '[r]\nmirrors = { x = { endpoint = [] } }\n']) {
      assert.equal(applyEdits(text, planRemoval(text, ['r', 'mirrors']) ?? assert.fail()), '[r]\n')
    }
  })

  it('plans nothing where nothing is, or within an inline table', () => {
    for (const text of ['[r]\n', 'r = { mirrors = { } }\n', 'broken = [\n']) {
      assert.equal(planRemoval(text, ['r', 'mirrors']), undefined)
    }
  })
})

describe('applyEdits', () => {
  it('makes edits by the lines of the file as it was, in whatever order', () => {
    const edits = [
      { kind: 'append', lines: ['e'] },
      { kind: 'insert', after: 1, lines: ['b'] },
      { kind: 'replace', from: 2, to: 3, lines: ['d'] },
      { kind: 'append', lines: ['f'] },
    ] as const
    assert.equal(applyEdits('a\nx\ny\n', edits), 'a\nb\nd\ne\nf\n')
    assert.equal(applyEdits('a\nx\ny\n', [...edits].reverse()), 'a\nb\nd\nf\ne\n')
    assert.equal(applyEdits('', []), '')
  })
})
