import type { RuntimeName } from '../../../lib/platform/runtime.ts'
import type { KeyName, KeyRange } from '../../swarm/content.ts'
import { printTable, quantile } from '../figures.ts'
import { Fleet } from './fleet.ts'
import { MeasuredNode } from './measured.ts'
import type { Plan } from './plan.ts'

/** In milliseconds: so short that a node with ten thousand digests refreshes all the time. */
const REFRESH_PERIOD = 20_000
const PATIENCE = 30_000

/** How long a new digest takes until another node finds it, while the node is busy with all of its others. */
export async function runFresh(plan: Plan): Promise<void> {
  const rows: string[][] = []
  for (const runtime of plan.runtimes) {
    const fleet = await Fleet.start()
    let node: MeasuredNode | undefined
    try {
      await fleet.grow(plan.at.nodes - 1)
      node = await MeasuredNode.start(runtime, fleet, { announcer: { refreshPeriod: REFRESH_PERIOD } })
      for (const row of await rowsOf(plan, runtime, fleet, node)) rows.push(row)
    } finally {
      await node?.kill()
      await fleet.close()
    }
  }
  console.log(
    `\nA new digest at a node with ${plan.at.digests} others, ${plan.at.nodes} nodes: ms until another node finds it, and until it does not after its withdrawal`,
  )
  printTable(
    ['runtime', 'while', 'requests/s', 'findable: median', 'findable: most', 'gone: median', 'gone: most'],
    rows,
  )
}

async function rowsOf(
  { at, probes }: Plan,
  runtime: RuntimeName,
  fleet: Fleet,
  node: MeasuredNode,
): Promise<string[][]> {
  const all: KeyRange = { set: `${runtime}/fresh`, from: 0, to: at.digests }
  let settled = false
  const announcing = node
    .costOf(() => node.advertise([all]))
    .then(() => {
      settled = true
    })
  const first = await probe(`${runtime}/announcing`, probes, fleet, node, () => settled)
  await announcing
  const second = await probe(`${runtime}/refreshing`, probes, fleet, node, () => false)
  return [
    [runtime, 'all others are announced', ...first],
    [runtime, 'all others are refreshed', ...second],
  ]
}

/** Measures one digest after another, until there are enough or the time is over. */
async function probe(
  set: string,
  count: number,
  fleet: Fleet,
  node: MeasuredNode,
  isOver: () => boolean,
): Promise<string[]> {
  const findable: number[] = []
  const gone: number[] = []
  const before = (await node.usage()).requests
  const begin = performance.now()
  for (let index = 0; index < count && !isOver(); index++) {
    const name: KeyName = { set, index }
    const range: KeyRange = { set, from: index, to: index + 1 }
    await node.advertise([range])
    findable.push(await elapsedUntil(() => fleet.finds(name, node.address)))
    await node.withdraw([range])
    gone.push(await elapsedUntil(async () => !(await fleet.finds(name, node.address))))
  }
  const rate = ((await node.usage()).requests - before) / ((performance.now() - begin) / 1_000)
  return [rate, ...[findable, gone].flatMap((times) => [quantile(times, 0.5), quantile(times, 1)])].map((figure) =>
    figure.toFixed(0),
  )
}

async function elapsedUntil(condition: () => Promise<boolean>): Promise<number> {
  const begin = performance.now()
  while (!(await condition())) {
    if (performance.now() - begin > PATIENCE) throw new Error(`not seen after ${PATIENCE} ms`)
  }
  return performance.now() - begin
}
