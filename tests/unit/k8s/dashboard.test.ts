import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { createAllMetrics } from '../../fixtures/metrics.ts'

const FILE = new URL('../../../k8s/chart/dashboard.json', import.meta.url)
/** Labels that Prometheus or the ServiceMonitor adds to every sample, and the bound of a histogram's bucket. */
const ADDED_LABELS = ['job', 'node', 'le']

interface Panel {
  readonly id: number
  readonly title: string
  readonly description: string
  readonly targets: readonly { readonly expr: string }[]
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
}

const dashboard = JSON.parse(readFileSync(FILE, 'utf8')) as {
  readonly panels: readonly Panel[]
  readonly templating: {
    readonly list: readonly { readonly name: string; readonly query: string | { query: string } }[]
  }
}
const expressions = [
  ...dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
  ...dashboard.templating.list.map(({ query }) => (typeof query === 'string' ? query : query.query)),
]

/** The series that a mirror has, each with the labels that it may carry. */
function series(): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, readonly string[]>()
  for (const { name, type, labels } of createAllMetrics().descriptions) {
    const names = type === 'histogram' ? ['_bucket', '_sum', '_count'].map((suffix) => name + suffix) : [name]
    for (const series of names) found.set(series, labels)
  }
  return found
}

describe('Grafana dashboard', () => {
  it('uses only metrics that a mirror has', () => {
    const known = series()
    const used = new Set(expressions.flatMap((expression) => expression.match(/\bswarmirror_\w+/g) ?? []))
    assert.ok(used.size > 10, `only ${used.size} metrics are shown`)
    const unknown = [...used].filter((name) => !known.has(name))
    assert.deepEqual(unknown, [])
  })

  it('uses only labels that those metrics have', () => {
    const known = series()
    for (const expression of expressions) {
      const used = [...expression.matchAll(/\b(swarmirror_\w+)\{([^}]*)\}/g)]
      const grouped = [...expression.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, list = '']) => list.split(', '))
      for (const [, name = '', selector = ''] of used) {
        const labels = [...selector.matchAll(/(\w+)=~?"/g)].map(([, label]) => label ?? '')
        const wrong = [...labels, ...grouped].filter(
          (label) => ![...ADDED_LABELS, ...(known.get(name) ?? [])].includes(label),
        )
        assert.deepEqual(wrong, [], `${expression}: ${name}`)
      }
    }
  })

  it('has panels that say what they show and do not lie on each other', () => {
    const ids = new Set(dashboard.panels.map(({ id }) => id))
    assert.equal(ids.size, dashboard.panels.length)
    for (const [index, { title, description, gridPos: a }] of dashboard.panels.entries()) {
      assert.ok(title !== '' && description !== '')
      for (const { title: other, gridPos: b } of dashboard.panels.slice(index + 1)) {
        const apart = a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y
        assert.ok(apart, `${title} and ${other}`)
      }
    }
  })
})
