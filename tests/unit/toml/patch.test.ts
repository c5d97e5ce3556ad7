import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { applyEdits, planElementRemoval, planRemoval, planSetting } from '../../../lib/toml/patch.ts'
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

describe('planElementRemoval', () => {
  for (const [text, right] of [
    ['a = ["x"]\n', 'a = []\n'],
    ['a = ["x", "y"] # c\n', 'a = [ "y"] # c\n'],
    ['a = ["y", "x"]\n', 'a = ["y"]\n'],
    ['a = ["y", "x",]\n', 'a = ["y", ]\n'],
    ['a = [\r\n  "y",\r\n  "x",\r\n  "z" # z\r\n]\r\n', 'a = [\r\n  "y",\r\n  "z" # z\r\n]\r\n'],
    ['a = [\n  "y", # y\n  "x" # x\n]\n', undefined],
    ['a = [\n  "x"\n]\n', 'a = [\n]\n'],
    ['a = [\n  # none\n  "x",\n]\nb = 1\n', 'a = [\n  # none\n]\nb = 1\n'],
    ['a = ["y"]\n', undefined],
    ['a = "x"\n', undefined],
    ['[a]\nx = 1\n', undefined],
    ['a = ', undefined],
  ] as const) {
    it(`takes x out of ${JSON.stringify(text)}${right === undefined ? ', or says that it cannot' : ''}`, () => {
      const edits = planElementRemoval(text, 'a', 'x')
      if (right !== undefined) assert.equal(edits && applyEdits(text, edits), right)
      else if (edits !== undefined) assert.deepEqual(listIn(applyEdits(text, edits)), ['y'])
    })
  }

  it('leaves all others, and all else, in any list', () => {
    const name = fc.constantFrom('x', 'y', 'z')
    const gap = fc.constantFrom('', ' ', '\n', '\n  ', ' # c "x", \n')
    const elements = fc.array(fc.tuple(gap, name, gap, gap), { maxLength: 5 })
    fc.assert(
      fc.property(elements, fc.boolean(), fc.constantFrom('', ' # end'), (parts, trailing, comment) => {
        const inner = parts.map(([a, value, b]) => `${a}"${value}"${b}`).join(',')
        const end = trailing && parts.length > 0 ? ',' : ''
        const text = `before = 1\na = [${inner}${end}${parts.at(-1)?.[3] ?? ''}]${comment}\nafter = ["x"]\n`
        const edits = planElementRemoval(text, 'a', 'x')
        const values = parts.map(([, value]) => value)
        const at = values.indexOf('x')
        if (at < 0) return assert.equal(edits, undefined)
        if (edits === undefined) return
        const changed = applyEdits(text, edits)
        assert.deepEqual(listIn(changed), values.toSpliced(at, 1))
        assert.deepEqual([valueIn(changed, ['before']), listIn(changed, 'after')], [1, ['x']])
      }),
    )
  })
})

function listIn(text: string, key = 'a'): unknown {
  const list = valueIn(text, [key])
  return Array.isArray(list) ? list.map(({ value }) => value) : list
}
