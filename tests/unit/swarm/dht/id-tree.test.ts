import assert from 'node:assert/strict'
import { test } from 'node:test'
import b4a from 'b4a'
import fc from 'fast-check'
import { IdTree } from '../../../../lib/swarm/dht/id-tree.ts'
import { compareDistance, prefixDistance, prefixOf } from '../../../../lib/swarm/node.ts'

/** Ids that are much alike, so that every bit matters. */
const id = fc
  .tuple(fc.constantFrom(0, 1, 0x80, 0xff), fc.integer({ min: 0, max: 255 }), fc.constantFrom(0, 1, 255))
  .map(([first, second, last]) => {
    const bytes = new Uint8Array(32)
    bytes.set([first, second])
    bytes[31] = last
    return bytes
  })

test('IdTree closest gives what sorting all by their distance gives, the closest first', () => {
  fc.assert(
    fc.property(fc.array(id, { maxLength: 60 }), id, fc.integer({ min: 0, max: 25 }), (ids, target, count) => {
      const tree = new IdTree<{ id: Uint8Array }>()
      const nodes = ids.map((of) => ({ id: of })).filter((node) => tree.add(node))
      assert.equal(tree.size, nodes.length)
      const sorted = [...nodes].sort((a, b) => compareDistance(target, a.id, b.id))
      assert.deepEqual(tree.closest(target, count), sorted.slice(0, count))
    }),
  )
})

test('IdTree keeps nodes in the order of their ids, each id once, and deletes only what is there', () => {
  fc.assert(
    fc.property(fc.array(id, { maxLength: 40 }), fc.array(fc.nat(39)), (ids, deleted) => {
      const tree = new IdTree<{ id: Uint8Array }>()
      const nodes = ids.map((of) => ({ id: of }))
      let there = nodes.filter((node) => tree.add(node))
      for (const at of deleted) {
        const node = nodes[at]
        if (node === undefined) continue
        assert.equal(tree.delete(node), there.includes(node))
        there = there.filter((other) => other !== node)
      }
      assert.deepEqual(
        [...{ [Symbol.iterator]: () => tree[Symbol.iterator]() }],
        there.sort((a, b) => b4a.compare(a.id, b.id)),
      )
    }),
  )
})

test('prefixDistance orders as the whole distance does, where it differs', () => {
  fc.assert(
    fc.property(id, id, id, (target, a, b) => {
      const difference = prefixDistance(prefixOf(target), prefixOf(a)) - prefixDistance(prefixOf(target), prefixOf(b))
      if (difference !== 0) assert.equal(Math.sign(difference), Math.sign(compareDistance(target, a, b)))
    }),
  )
})
