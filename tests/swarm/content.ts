/** What simulated nodes hold: digests made from a seed, so that nobody needs a list of them. */
import { createHash } from 'node:crypto'
import type { Key } from '../../lib/oci/key.ts'

/** Digests of a set, from an index up to but not including another. */
export interface KeyRange {
  readonly set: string
  readonly from: number
  readonly to: number
}

export interface KeyName {
  readonly set: string
  readonly index: number
}

/** The digest of a name, which is the same in every process of a simulation. */
export function keyOf({ set, index }: KeyName): Key {
  return `sha256:${createHash('sha256').update(`${set}/${index}`).digest('hex')}` as Key
}

export function keysOf(ranges: readonly KeyRange[]): Key[] {
  return ranges.flatMap(({ set, from, to }) =>
    Array.from({ length: to - from }, (_, offset) => keyOf({ set, index: from + offset })),
  )
}

export function countOf(ranges: readonly KeyRange[]): number {
  return ranges.reduce((sum, { from, to }) => sum + to - from, 0)
}

export function holds(ranges: readonly KeyRange[], { set, index }: KeyName): boolean {
  return ranges.some((range) => range.set === set && index >= range.from && index < range.to)
}

/** The name at a place among all names in the ranges, counted from 0. */
export function nameAt(ranges: readonly KeyRange[], place: number): KeyName {
  let rest = place
  for (const { set, from, to } of ranges) {
    if (rest < to - from) return { set, index: from + rest }
    rest -= to - from
  }
  throw new RangeError(`expected a place below ${countOf(ranges)}, got ${place}`)
}

/** The size of the pool of shared digests, as a multiple of one node's share: half of the nodes hold each digest. */
const POOL = 2

/**
 * What one node holds: a part that no other node has, and a stretch of a pool that all nodes share, like the layers of common base
 * images.
 *
 * @param random numbers in [0, 1)
 */
export function makeContent(
  seed: string,
  node: number,
  { digests, shared }: { readonly digests: number; readonly shared: number },
  random: () => number,
): KeyRange[] {
  const common = Math.round(digests * shared)
  const pool = common * POOL
  const start = Math.floor(random() * pool)
  const own: KeyRange = { set: `${seed}/node-${node}`, from: 0, to: digests - common }
  const set = `${seed}/pool`
  const first: KeyRange = { set, from: start, to: Math.min(start + common, pool) }
  const wrapped: KeyRange = { set, from: 0, to: Math.max(start + common - pool, 0) }
  return [own, first, wrapped].filter(({ from, to }) => to > from)
}
