import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createPolicy } from '../../../lib/oci/policy.ts'

const HUB = { registry: 'docker.io', repository: 'library/alpine' }
const OTHER = { registry: 'registry.example:5000', repository: 'team/app' }

test('createPolicy without options admits everything and resolves tags', () => {
  const policy = createPolicy()
  assert.ok(policy.admits({ ...HUB, tag: '3' }))
  assert.ok(policy.admits(OTHER))
  assert.equal(policy.resolvesTags, true)
  assert.equal(createPolicy({ resolvesTags: false }).resolvesTags, false)
})

test('createPolicy admits the registries that it is given, exactly', () => {
  const policy = createPolicy({ registries: new Set(['registry.example:5000']) })
  assert.ok(policy.admits({ ...OTHER, tag: '1' }))
  assert.ok(policy.admits(OTHER))
  for (const registry of ['docker.io', 'registry.example', 'registry.example:50000']) {
    assert.ok(!policy.admits({ ...OTHER, registry, tag: '1' }), registry)
  }
})

test('createPolicy tells by a host without its port and a repository whether images there are mirrored, where some are not', () => {
  const { admitsSource } = createPolicy({
    registries: new Set(['registry.example:5000', 'docker.io', '[2001:db8::1]:5000']),
    exclude: [/^docker\.io\/secret\//u],
  })
  const hosts = ['registry.example', 'docker.io', '2001:db8::1', 'registry.example:5000', 'other.example', 'io']
  assert.deepEqual(
    hosts.map((host) => admitsSource?.(host, 'team/app')),
    [true, true, true, false, false, false],
  )
  assert.equal(admitsSource?.('docker.io', 'secret/app'), false)
  assert.equal(createPolicy({ exclude: [/:latest$/u] }).admitsSource?.('other.example', 'team/app'), true)
  assert.equal(createPolicy().admitsSource, undefined)
})

test('createPolicy excludes what an expression matches anywhere in registry/repository:tag', () => {
  const policy = createPolicy({ exclude: [/:latest$/u, /^docker\.io\/library\//u] })
  assert.ok(!policy.admits({ ...OTHER, tag: 'latest' }))
  assert.ok(policy.admits({ ...OTHER, tag: 'latest-1' }))
  assert.ok(!policy.admits({ ...HUB, tag: '3' }))
  assert.ok(policy.admits({ ...HUB, repository: 'team/alpine', tag: '3' }))
})

test('createPolicy judges an image that is known by digest only by its name', () => {
  const policy = createPolicy({ exclude: [/:latest$/u, /^docker\.io\/library\/alpine:/u] })
  assert.ok(policy.admits(OTHER))
  assert.ok(!policy.admits(HUB))
})

test('createPolicy gives the same answer every time, also with expressions that keep a state', () => {
  const policy = createPolicy({ exclude: [/team/g, /alpine/g] })
  for (let round = 0; round < 3; round++) {
    assert.ok(!policy.admits({ ...OTHER, tag: '1' }))
    assert.ok(!policy.admits({ ...HUB, tag: '1' }))
  }
})
