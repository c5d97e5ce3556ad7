/** Checks that the chart's files beside the templates agree with the program. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { parse } from 'yaml'
import { DISTRIBUTIONS } from '../../../lib/containerd/check/distributions.ts'
import { SETTINGS } from '../../../lib/settings/settings.ts'
import { createAllMetrics } from '../../fixtures/metrics.ts'
import { partOf } from '../../fixtures/readme.ts'

const read = (name: string) => readFileSync(new URL(`../../../k8s/chart/${name}`, import.meta.url), 'utf8')
const schema = JSON.parse(read('values.schema.json'))
const distributions: Record<string, Readonly<Record<string, unknown>>> = parse(read('distributions.yaml'))

/** Settings that the chart makes from other values. */
const MADE = [
  ...['listen', 'peer-listen', 'admin-listen', 'metrics-listen', 'advertise-host', 'swarm-key', 'swarm-key-file'],
  ...['store', 'containerd-socket', 'containerd-config', 'certs-dir', 'data-dir', 'untaint'],
]

/** The program's names of the chart's distributions, if it recognises them. */
const NAMES: Readonly<Record<string, string>> = {
  kind: 'Kind',
  talos: 'Talos',
  gke: 'GKE',
  k0s: 'K0s',
  k3s: 'K3s',
  rke2: 'RKE2',
  eks: 'EKS, Amazon Linux 2023',
  bottlerocket: 'EKS, Bottlerocket',
  aks: 'AKS',
  minikube: 'Minikube',
}

describe('chart', () => {
  it('takes every setting that it does not make itself, and no other: `properties.settings` of values.schema.json', () => {
    const taken = Object.keys(SETTINGS).filter((name) => !MADE.includes(name))
    assert.deepEqual(Object.keys(schema.properties.settings.properties), taken)
  })

  it('has a value for each that its schema knows, and the distributions of its schema', () => {
    const values = parse(read('values.yaml'))
    const known = Object.keys(schema.properties).filter((name) => name !== 'global')
    assert.deepEqual(Object.keys(values).sort(), known.sort())
    assert.deepEqual([...schema.properties.distribution.enum].sort(), Object.keys(distributions).sort())
  })

  it('is documented for each distribution', () => {
    const rows = partOf('k8s/README.md', 'distributions').split('\n').slice(2)
    const names = rows.map((row) => /^\| `(\w+)` \|/.exec(row)?.[1])
    assert.deepEqual(names, Object.keys(distributions))
    for (const [index, name] of names.entries()) {
      const file = distributions[name ?? '']?.file
      if (file !== undefined) assert.ok(rows[index]?.includes(`k8s/chart/nodes/${file}`), name)
    }
  })

  it('has the paths of each distribution as the program knows them', () => {
    assert.deepEqual(
      Object.keys(NAMES).sort(),
      Object.keys(distributions)
        .filter((name) => name !== 'none')
        .sort(),
    )
    const { none = {} } = distributions
    assert.equal(none.socket, SETTINGS['containerd-socket'].default)
    assert.equal(none.config, SETTINGS['containerd-config'].default)
    assert.equal(none.certs, SETTINGS['certs-dir'].default)
    for (const [name, called] of Object.entries(NAMES)) {
      const { settings = {} } = DISTRIBUTIONS.find(({ name }) => name === called) ?? assert.fail(called)
      const { socket, config, certs } = distributions[name] ?? {}
      const own = { 'containerd-socket': socket, 'containerd-config': config, 'certs-dir': certs }
      // GKE writes its hosts.toml files into a directory of its own once its node pools are given registry hosts.
      if (name === 'gke') assert.equal(own['certs-dir'], '/etc/containerd/hosts.d')
      else assert.deepEqual(JSON.parse(JSON.stringify(own)), settings, name)
    }
  })

  it('has alerts about metrics that a mirror has, each with words for a person', () => {
    const documented = partOf('lib/observe/README.md', 'alerts')
    const { groups } = parse(read('alerts.yaml')) as {
      readonly groups: readonly {
        readonly rules: readonly { alert: string; expr: string; annotations: Record<string, string> }[]
      }[]
    }
    const known = createAllMetrics().descriptions.map(({ name }) => name)
    const rules = groups.flatMap(({ rules }) => rules)
    const rows = rules.map(({ alert, annotations: { summary = '' } }) => {
      return `| \`${alert}\` | ${summary.replace('{{ $labels.node }}', 'a node')} |`
    })
    assert.equal(documented.split('\n').slice(2).join('\n'), rows.join('\n'))
    for (const { expr, annotations } of rules) {
      const used = expr.match(/\bswarmirror_\w+/g) ?? []
      assert.ok(used.length > 0)
      assert.deepEqual(
        used.filter((name) => !known.includes(name)),
        [],
      )
      assert.ok(annotations.description)
    }
  })
})
