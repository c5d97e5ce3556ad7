import assert from 'node:assert/strict'
import { test } from 'node:test'
import { simulate } from './simulation.ts'

for (const [nodes, link, spread, average] of [
  [10, 1, 0.05, 1.15],
  [50, 1, 0.05, 1.35],
  [200, 1, 0.05, 1.7],
  [200, 1, 0.5, 1.7],
  [50, 4, 0.05, 1.1],
  [200, 4, 0.05, 1.1],
  [200, 4, 2, 1.1],
  [200, 16, 0.5, 1.1],
] as const) {
  test(`flight of ${nodes} nodes with ${link} times the link of the registry, who come within ${spread} of the time of one: one image, and ${average} of that time at most`, () => {
    const outcome = simulate({ seed: 1, nodes, link, spread, deaths: 0 })
    assert.ok(outcome.isComplete)
    assert.ok(outcome.images < 1.01, `${outcome.images} images`)
    assert.ok(outcome.average < average, `${outcome.average} of the time of one`)
  })
}

test('flight of nodes that die: the others get everything', () => {
  for (const seed of [1, 2, 3]) {
    const outcome = simulate({ seed, nodes: 30, link: 1, spread: 0.5, deaths: 0.02 })
    assert.ok(outcome.isComplete, `seed ${seed}`)
    assert.ok(outcome.average < 3, `${outcome.average} of the time of one, seed ${seed}`)
  }
})
