import type { RuntimeName } from '../../../lib/platform/runtime.ts'
import type { KeyRange } from '../../swarm/content.ts'
import { printTable, quantile } from '../figures.ts'
import { Fleet } from './fleet.ts'
import { MeasuredNode, PlainNode } from './measured.ts'
import { isOnCurve, type Plan } from './plan.ts'

/** More than that takes hyperdht minutes at every size; once, at the point that the numbers are asked for, is enough. */
const MOST_PLAIN = 1_000
/** Announced digests that another node is asked for. */
const SAMPLE = 100

/** What announcing and looking up cost over nodes and digests, beside hyperdht's own way in the same swarm. */
export async function runCurve(plan: Plan): Promise<void> {
  const announced: string[][] = []
  const looked: string[][] = []
  for (const runtime of plan.runtimes) await curveOf(plan, runtime, announced, looked)
  console.log('\nAnnouncing, beside plain `dht.announce` (16 at a time); a ratio below 1 means less than plain')
  printTable(
    [
      'runtime',
      'nodes',
      'digests',
      'wall s',
      'CPU ms/digest',
      'plain wall s',
      'plain CPU ms/digest',
      'wall ratio',
      'CPU ratio',
      'withdraw s',
      'found of sample',
    ],
    announced,
  )
  console.log('\nLookups one after the other, ms to the first peer; plain: `dht.lookup` to its first record')
  printTable(
    ['runtime', 'nodes', 'median', '99 %', 'missed', 'plain median', 'plain 99 %', 'plain missed', 'median ratio'],
    looked,
  )
}

/** A swarm of its own for each runtime, so that no node dies in it. The two that are measured belong to it. */
async function curveOf(plan: Plan, runtime: RuntimeName, announced: string[][], looked: string[][]): Promise<void> {
  const fleet = await Fleet.start()
  const closing: { kill(): Promise<void> }[] = []
  try {
    await fleet.grow(Math.min(...plan.nodes) - 2)
    const ours = await MeasuredNode.start(runtime, fleet)
    closing.push(ours)
    const plain = await PlainNode.start(runtime, fleet)
    closing.push(plain)
    for (const nodes of plan.nodes) {
      await fleet.grow(nodes - 2)
      for (const digests of plan.digests.filter((count) => isOnCurve(plan, runtime, nodes, count))) {
        announced.push(await announceRow(plan, { fleet, ours, plain, runtime, nodes, digests }))
        console.log(announced.at(-1)?.join('  '))
      }
      looked.push(await lookupRow(plan, { fleet, ours, plain, runtime, nodes }))
      console.log(looked.at(-1)?.join('  '))
    }
  } finally {
    await Promise.all(closing.map((node) => node.kill()))
    await fleet.close()
  }
}

interface Point {
  readonly fleet: Fleet
  readonly ours: MeasuredNode
  readonly plain: PlainNode
  readonly runtime: RuntimeName
  readonly nodes: number
}

async function announceRow({ at }: Plan, point: Point & { readonly digests: number }): Promise<string[]> {
  const { fleet, ours, plain, runtime, nodes, digests } = point
  const range: KeyRange = { set: `${runtime}/${nodes}/${digests}`, from: 0, to: digests }
  const cost = await ours.costOf(() => ours.advertise([range]))
  const step = Math.max(Math.floor(digests / SAMPLE), 1)
  let found = 0
  let asked = 0
  for (let index = 0; index < digests; index += step) {
    asked++
    if (await fleet.finds({ set: range.set, index }, ours.address)) found++
  }
  const withdrawal = await ours.costOf(() => ours.withdraw([range]))
  const isPlain = digests <= MOST_PLAIN || (nodes === at.nodes && digests === at.digests)
  const other = isPlain ? await plain.announce([{ ...range, set: `plain/${range.set}` }]) : undefined
  const seconds = (ms: number | undefined) => (ms === undefined ? '' : (ms / 1_000).toFixed(2))
  const each = (ms: number | undefined) => (ms === undefined ? '' : (ms / digests).toFixed(2))
  return [
    runtime,
    `${nodes}`,
    `${digests}`,
    seconds(cost.took),
    each(cost.cpu),
    seconds(other?.took),
    each(other?.cpu),
    other === undefined ? '' : (cost.took / other.took).toFixed(2),
    other === undefined ? '' : (cost.cpu / other.cpu).toFixed(2),
    seconds(withdrawal.took),
    `${found} of ${asked}`,
  ]
}

async function lookupRow({ lookups }: Plan, { fleet, ours, plain, runtime, nodes }: Point): Promise<string[]> {
  // A small swarm does not hold as many digests as a large one.
  const count = Math.min(lookups, (fleet.size - 1) * 20)
  const own = describe(await ours.lookup(fleet.unasked(count)))
  const other = describe(await plain.lookup(fleet.unasked(count)))
  return [
    runtime,
    `${nodes}`,
    own.median.toFixed(2),
    own.worst.toFixed(1),
    `${own.missed} of ${count}`,
    other.median.toFixed(2),
    other.worst.toFixed(1),
    `${other.missed} of ${count}`,
    (own.median / other.median).toFixed(2),
  ]
}

function describe(took: readonly (number | null)[]): { median: number; worst: number; missed: number } {
  const found = took.filter((ms) => ms !== null)
  return { median: quantile(found, 0.5), worst: quantile(found, 0.99), missed: took.length - found.length }
}
