import assert from 'node:assert/strict'
import { test } from 'node:test'
import { simulate } from './simulation.ts'

for (const [nodes, average] of [
  [10, 1.1],
  [50, 1.5],
] as const) {
  test(`flight of ${nodes} nodes whose links are as the registry's: one image, ${average} of the time of one at most`, () => {
    const outcome = simulate({ seed: 1, nodes, link: 1, spread: 0.05, deaths: 0 })
    assert.ok(outcome.isComplete)
    assert.ok(outcome.images < 1.01, `${outcome.images} images`)
    assert.ok(outcome.average < average, `${outcome.average} of the time of one`)
  })
}

test('flight of nodes that die: the others are complete', () => {
  for (const seed of [1, 2, 3]) {
    const outcome = simulate({ seed, nodes: 30, link: 1, spread: 0.5, deaths: 0.02 })
    assert.ok(outcome.isComplete, `seed ${seed}`)
    assert.ok(outcome.average < 3, `${outcome.average} of the time of one, seed ${seed}`)
  }
})
