import type { RuntimeName } from '../../../lib/platform/runtime.ts'
import { COSTS, SETTINGS } from '../../swarm/model.ts'
import { printTable } from '../figures.ts'
import { Fleet } from './fleet.ts'
import { MeasuredNode } from './measured.ts'
import type { Plan } from './plan.ts'

/** Few nodes, so that the node that only receives gets most of the announcements. */
const NODES = 10
/** Seconds at rest, whose CPU time is subtracted from that of the measured work. */
const REST = 5
const WARM_UP = 200

/** Measures the cost of storing and keeping a record among many, and of a question, for the model of lib/swarm/scale.md. */
export async function runCalibrate(plan: Plan): Promise<void> {
  const rows: string[][] = []
  for (const runtime of plan.runtimes) rows.push(await rowOf(plan, runtime))
  const { recordSent, recordReceived, asked, record, key } = COSTS
  rows.push(['model', ...[recordSent, recordReceived, asked].map((ms) => ms.toFixed(3)), `${record}`, `${key}`])
  console.log(
    '\nWhat the model multiplies: CPU ms at the sender and at the receiver of a record among many, CPU ms of a question; bytes',
  )
  printTable(['runtime', 'record sent', 'record received', 'question', 'bytes a record', 'bytes a key'], rows)
}

async function rowOf({ at, lookups }: Plan, runtime: RuntimeName): Promise<string[]> {
  const fleet = await Fleet.start()
  const nodes: MeasuredNode[] = []
  try {
    await fleet.grow(NODES - 2)
    const start = async () => {
      const node = await MeasuredNode.start(runtime, fleet)
      nodes.push(node)
      return node
    }
    const sender = await start()
    const receiver = await start()
    const advertise = (set: string, to: number) => sender.costOf(() => sender.advertise([{ set, from: 0, to }]))
    // Compilers, buffers and the map are warm then.
    await advertise(`${runtime}/warm`, WARM_UP)
    const rest = await restOf([sender, receiver])
    const [sentBefore, receivedBefore] = [await sender.usage(), await receiver.usage()]
    const begin = performance.now()
    await advertise(`${runtime}/calibrate`, at.digests)
    const seconds = (performance.now() - begin) / 1_000
    const [sentAfter, receivedAfter] = [await sender.usage(), await receiver.usage()]
    const records = receivedAfter.records - receivedBefore.records
    const sent = (sentAfter.cpu - sentBefore.cpu - (rest[0] ?? 0) * seconds) / (at.digests * SETTINGS.replicas)
    const received = (receivedAfter.cpu - receivedBefore.cpu - (rest[1] ?? 0) * seconds) / records
    const MiB = 2 ** 20
    const perRecord = ((receivedAfter.residentMebibytes - receivedBefore.residentMebibytes) * MiB) / records
    // The sender keeps records for itself, as a node of the swarm.
    const own = sentAfter.records - sentBefore.records
    const grown = (sentAfter.residentMebibytes - sentBefore.residentMebibytes) * MiB
    const asking = await sender.usage()
    const asked = await timed(() => sender.lookup(fleet.unasked(Math.min(lookups, 100))))
    const after = await sender.usage()
    const question = (after.cpu - asking.cpu - (rest[0] ?? 0) * asked) / (after.requests - asking.requests)
    return [
      runtime,
      ...[sent, received, question].map((ms) => ms.toFixed(3)),
      perRecord.toFixed(0),
      ((grown - own * perRecord) / at.digests).toFixed(0),
    ]
  } finally {
    await Promise.all(nodes.map((node) => node.kill()))
    await fleet.close()
  }
}

/** CPU milliseconds a second of each while nothing goes on. */
async function restOf(nodes: readonly MeasuredNode[]): Promise<number[]> {
  const before = await Promise.all(nodes.map((node) => node.usage()))
  const seconds = await timed(() => new Promise((resolve) => setTimeout(resolve, REST * 1_000)))
  const after = await Promise.all(nodes.map((node) => node.usage()))
  return after.map(({ cpu }, index) => (cpu - (before[index]?.cpu ?? 0)) / seconds)
}

async function timed(body: () => Promise<unknown>): Promise<number> {
  const begin = performance.now()
  await body()
  return (performance.now() - begin) / 1_000
}
