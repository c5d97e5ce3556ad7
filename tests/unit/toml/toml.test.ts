import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { NESTING_LIMIT, parseToml, TomlError, type TomlTable, type TomlValue } from '../../../lib/toml/toml.ts'
import { anyText } from '../../fixtures/arbitrary.ts'

/** A table as nested arrays of name, line and value, for comparisons. */
function plain(value: TomlValue): unknown {
  if (value instanceof Map) {
    return [...(value as TomlTable)].map(([name, entry]) => [name, entry.line, plain(entry.value)])
  }
  if (Array.isArray(value))
    return { list: (value as readonly { value: TomlValue }[]).map((entry) => plain(entry.value)) }
  return value
}

describe('parseToml', () => {
  it('gives values with the lines where they stand', () => {
    const text = 'a = "x"\n\n[t."b.c"]\nd.e = 1 # comment\nf = [true, { g = 2.5 }]\n[[l]]\nh = 1\n[[l]]\nh = 2\n[l.m]\n'
    assert.deepEqual(plain(parseToml(text)), [
      ['a', 1, 'x'],
      [
        't',
        3,
        [
          [
            'b.c',
            3,
            [
              ['d', 4, [['e', 4, 1]]],
              ['f', 5, { list: [true, [['g', 5, 2.5]]] }],
            ],
          ],
        ],
      ],
      [
        'l',
        6,
        {
          list: [
            [['h', 7, 1]],
            [
              ['h', 9, 2],
              ['m', 10, []],
            ],
          ],
        },
      ],
    ])
  })

  it('takes __proto__ for a key like any other', () => {
    const table = parseToml('__proto__.polluted = true\n[constructor]\n')
    assert.deepEqual([...table.keys()], ['__proto__', 'constructor'])
    assert.equal(({} as Record<string, unknown>).polluted, undefined)
  })

  for (const [text, line, column] of [
    ['a = 1\nb = [1,\n', 3, 1],
    ['a = 1\na = 2\n', 2, 1],
    ['[t]\n[t]\n', 2, 2],
    ['a = "x\n', 1, 7],
    ['a = 1\rb = 2', 1, 6],
  ] as const) {
    it(`says where ${JSON.stringify(text)} breaks`, () => {
      assert.throws(
        () => parseToml(text),
        (error) => {
          assert.ok(error instanceof TomlError)
          assert.deepEqual([error.line, error.column], [line, column], error.message)
          return true
        },
      )
    })
  }

  it('bounds the nesting of arrays, tables and keys', () => {
    const deep = NESTING_LIMIT + 2
    for (const text of [
      `a = ${'['.repeat(deep)}${']'.repeat(deep)}`,
      `a = ${'{a='.repeat(deep)}1${'}'.repeat(deep)}`,
      `[${Array(deep).fill('a').join('.')}]`,
      `${Array(deep).fill('a').join('.')} = 1`,
      `a = ${'['.repeat(50_000)}${']'.repeat(50_000)}`,
    ]) {
      assert.throws(() => parseToml(text), TomlError)
    }
    assert.notEqual(parseToml(`a = ${'['.repeat(NESTING_LIMIT)}${']'.repeat(NESTING_LIMIT)}`).get('a'), undefined)
  })

  it('throws nothing but TomlError on any text', () => {
    const piece = fc.constantFrom(
      ...['a', 'b.c', '"', "'", '=', '[', ']', '[[', ']]', '\n', '.', '#', ' ', '\\', '1', '-', '{', '}', ',', 'true'],
      ...['"""', "'''", '\r', '\r\n', '\0', 'inf', '1979-05-27', 'é', '\u{1f600}', '\ud800', '__proto__', '0x', '\\u'],
    )
    const text = fc.oneof(
      anyText,
      fc.array(piece, { maxLength: 20 }).map((list) => list.join('')),
    )
    fc.assert(
      fc.property(text, (input) => {
        try {
          assert.ok(parseToml(input) instanceof Map)
        } catch (error) {
          assert.ok(error instanceof TomlError, String(error))
          assert.ok(error.line >= 1 && error.column >= 1)
        }
      }),
      { numRuns: 1_000 },
    )
  })
})
