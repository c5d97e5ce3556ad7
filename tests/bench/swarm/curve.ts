import type { RuntimeName } from '../../../lib/platform/runtime.ts'
import type { KeyRange } from '../../swarm/content.ts'
import { printTable, quantile } from '../figures.ts'
import { Fleet } from './fleet.ts'
import { MeasuredNode } from './measured.ts'
import { isOnCurve, type Plan } from './plan.ts'

/** How many announced digests another node looks up. */
const SAMPLE = 100

/** What announcing and looking up cost over nodes and digests. */
export async function runCurve(plan: Plan): Promise<void> {
  const announced: string[][] = []
  const looked: string[][] = []
  for (const runtime of plan.runtimes) await curveOf(plan, runtime, announced, looked)
  console.log('\nAnnouncing')
  printTable(['runtime', 'nodes', 'digests', 'wall s', 'CPU ms/digest', 'withdraw s', 'found of sample'], announced)
  console.log('\nLookups one after the other, ms to the first peer')
  printTable(['runtime', 'nodes', 'median', '99 %', 'missed'], looked)
}

/** Each runtime has its own swarm, so that no node dies in it. It contains the two measured nodes. */
async function curveOf(plan: Plan, runtime: RuntimeName, announced: string[][], looked: string[][]): Promise<void> {
  const fleet = await Fleet.start()
  const closing: { kill(): Promise<void> }[] = []
  try {
    await fleet.grow(Math.min(...plan.nodes) - 2)
    const ours = await MeasuredNode.start(runtime, fleet)
    closing.push(ours)
    for (const nodes of plan.nodes) {
      await fleet.grow(nodes - 2)
      for (const digests of plan.digests.filter((count) => isOnCurve(plan, runtime, nodes, count))) {
        announced.push(await announceRow({ fleet, ours, runtime, nodes, digests }))
        console.log(announced.at(-1)?.join('  '))
      }
      looked.push(await lookupRow(plan, { fleet, ours, runtime, nodes }))
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
  readonly runtime: RuntimeName
  readonly nodes: number
}

async function announceRow(point: Point & { readonly digests: number }): Promise<string[]> {
  const { fleet, ours, runtime, nodes, digests } = point
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
  const seconds = (ms: number) => (ms / 1_000).toFixed(2)
  const each = (ms: number) => (ms / digests).toFixed(2)
  return [
    runtime,
    `${nodes}`,
    `${digests}`,
    seconds(cost.took),
    each(cost.cpu),
    seconds(withdrawal.took),
    `${found} of ${asked}`,
  ]
}

async function lookupRow({ lookups }: Plan, { fleet, ours, runtime, nodes }: Point): Promise<string[]> {
  // A small swarm does not hold as many digests as a large one.
  const count = Math.min(lookups, (fleet.size - 1) * 20)
  const own = describe(await ours.lookup(fleet.unasked(count)))
  return [runtime, `${nodes}`, own.median.toFixed(2), own.worst.toFixed(1), `${own.missed} of ${count}`]
}

function describe(took: readonly (number | null)[]): { median: number; worst: number; missed: number } {
  const found = took.filter((ms) => ms !== null)
  return { median: quantile(found, 0.5), worst: quantile(found, 0.99), missed: took.length - found.length }
}
