import { parseArgs } from 'node:util'
import type { RuntimeName } from '../../../lib/platform/runtime.ts'

export const STAGES = ['curve', 'fresh', 'rest', 'calibrate'] as const
export type Stage = (typeof STAGES)[number]
const RUNTIMES = ['bun', 'node', 'deno'] as const satisfies readonly RuntimeName[]

/** What is measured, and how long. */
export interface Plan {
  readonly stages: readonly Stage[]
  readonly runtimes: readonly RuntimeName[]
  /** Nodes of the swarm in all, and digests of the measured one. */
  readonly nodes: readonly number[]
  readonly digests: readonly number[]
  /** The point at which the numbers are asked for; the curves go through it. */
  readonly at: { readonly nodes: number; readonly digests: number }
  /** Measures every pair of nodes and digests on every runtime, not on the first one only. */
  readonly grid: boolean
  readonly lookups: number
  readonly probes: number
  /** Seconds of the quiet stretch. */
  readonly stretch: number
}

const FULL: Plan = {
  stages: STAGES,
  runtimes: RUNTIMES,
  nodes: [5, 20, 60, 100],
  digests: [100, 1_000, 10_000],
  at: { nodes: 60, digests: 10_000 },
  grid: false,
  lookups: 500,
  probes: 20,
  stretch: 60,
}

const QUICK: Plan = {
  ...FULL,
  nodes: [20],
  digests: [1_000],
  at: { nodes: 20, digests: 1_000 },
  lookups: 200,
  probes: 5,
  stretch: 20,
}

/** @throws {TypeError} for an argument that is not known, or a value that is not one of those accepted */
export function readPlan(args: readonly string[]): Plan {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: 'boolean', default: false },
      grid: { type: 'boolean', default: false },
      stages: { type: 'string' },
      runtimes: { type: 'string' },
      nodes: { type: 'string' },
      digests: { type: 'string' },
    },
  })
  const plan = values.quick ? QUICK : FULL
  const nodes = numbers('--nodes', values.nodes) ?? plan.nodes
  const digests = numbers('--digests', values.digests) ?? plan.digests
  const most = (among: readonly number[], wanted: number) => (among.includes(wanted) ? wanted : Math.max(...among))
  return {
    ...plan,
    grid: values.grid,
    stages: names('--stages', values.stages, STAGES) ?? plan.stages,
    runtimes: names('--runtimes', values.runtimes, RUNTIMES) ?? plan.runtimes,
    nodes,
    digests,
    at: { nodes: most(nodes, plan.at.nodes), digests: most(digests, plan.at.digests) },
  }
}

/** Whether a point lies on the curves: through the point that is asked for, along either axis. */
export function isOnCurve({ at, grid, runtimes }: Plan, runtime: RuntimeName, nodes: number, digests: number): boolean {
  return grid || runtime === runtimes[0] || nodes === at.nodes || digests === 1_000
}

function numbers(flag: string, text: string | undefined): number[] | undefined {
  const values = text?.split(',').map(Number)
  if (values?.some((value) => !Number.isInteger(value) || value < 4))
    throw new TypeError(`${flag}: expected whole numbers of at least 4 with commas between, got ${text}`)
  return values
}

function names<T extends string>(flag: string, text: string | undefined, accepted: readonly T[]): T[] | undefined {
  return text?.split(',').map((name) => {
    const found = accepted.find((one) => one === name)
    if (found === undefined) throw new TypeError(`${flag}: expected some of ${accepted.join(', ')}, got ${name}`)
    return found
  })
}
