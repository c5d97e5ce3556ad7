import { readFileSync, writeFileSync } from 'node:fs'
import { quantile } from './figures.ts'
import { type ImageShape, nameOf, type Pattern, type Plan, WAYS, type Way } from './rollout-plan.ts'

/** The costs of one rollout. */
export interface Rollout {
  /** Seconds of each node's pull. */
  readonly pulls: readonly number[]
  /** Bytes that left the registry, as a multiple of the image's size. */
  readonly upstream: number
  /** Bytes that left the registry, as a share of what its link can carry in that time. */
  readonly upstreamLink: number
  /** How the machine's processors spent the time, each from 0 to 1; `own`: for the containerds, the mirrors and the registry. */
  readonly busy: number
  readonly waiting: number
  readonly own: number
}

/** The same rollout in each requested way. */
export interface Result extends ImageShape, Partial<Record<Way, Rollout>> {
  readonly pattern: Pattern
}

/** Figures that belong together: only the image and the pattern differ. */
export interface Results {
  readonly nodes: number
  readonly link: number
  readonly runtime: string
  /** The containerd that pulls, and how. */
  readonly containerd: string
  readonly results: readonly Result[]
}

/** If more than this share of the processors is busy, links or processors may be the bottleneck. */
export const BOUND = 0.9
/** If less than this share is the run's own, other programs may have held it up. */
export const OWN = 0.5
/** From this share on the registry's link counts as full: token buckets and TCP leave some of it unused. */
export const FULL = 0.85

export function average(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/** Combines several rounds of a rollout. */
export function mergeRounds(rollouts: readonly Rollout[]): Rollout {
  const mean = (field: Exclude<keyof Rollout, 'pulls'>) => average(rollouts.map((rollout) => rollout[field]))
  return {
    pulls: rollouts.flatMap(({ pulls }) => pulls),
    upstream: mean('upstream'),
    upstreamLink: mean('upstreamLink'),
    busy: mean('busy'),
    waiting: mean('waiting'),
    own: mean('own'),
  }
}

/**
 * The results of earlier parts in the file.
 *
 * @throws {Error} if they have other nodes, links, runtimes or containerds, and so cannot be compared
 */
export function readResults({ results: file, nodes, link, runtime }: Plan, containerd: string): Results {
  const none = { nodes, link, runtime, containerd, results: [] }
  if (file === undefined) return none
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return none
    throw error
  }
  const before = JSON.parse(text) as Results
  const of = (all: Results) => `${all.nodes} nodes, ${all.link} Mbit/s, ${all.runtime}, ${all.containerd}`
  if (of(before) !== of(none)) {
    throw new Error(`--results ${file} is of ${of(before)}: give another file, or the same settings`)
  }
  return before
}

/** Adds a result, or replaces an older one of the same image and pattern; sorted from small to large. */
export function withResult(all: Results, result: Result): Results {
  const isSame = ({ megabytes, layers, pattern }: Result) =>
    megabytes === result.megabytes && layers === result.layers && pattern === result.pattern
  const results = [...all.results.filter((other) => !isSame(other)), result].sort(
    (a, b) =>
      (a.pattern === b.pattern ? 0 : a.pattern === 'update' ? -1 : 1) ||
      a.megabytes - b.megabytes ||
      a.layers - b.layers,
  )
  return { ...all, results }
}

export function writeResults(file: string, results: Results): void {
  writeFileSync(file, `${JSON.stringify(results, undefined, 1)}\n`)
}

export const COLUMNS = [
  'image',
  'pattern',
  ...['average', 'slowest', 'upstream', 'processors'].flatMap((what) => WAYS.map((way) => `${what} ${way}`)),
  'average, mirrored / direct',
  'average, mirrored / solo',
  'average, mirrored / unshared',
  'slowest, mirrored / solo',
]

export function rowOf(result: Result): string[] {
  const each = (figure: (rollout: Rollout) => string) => WAYS.map((way) => withAll([result[way]], figure))
  const ratio = (figure: (pulls: readonly number[]) => number, way: Way) =>
    withAll([result.mirrored, result[way]], (mirrored, other) =>
      (figure(mirrored.pulls) / average(other.pulls)).toFixed(2),
    )
  return [
    nameOf(result),
    result.pattern,
    ...each(({ pulls }) => average(pulls).toFixed(3)),
    ...each(({ pulls }) => quantile(pulls, 1).toFixed(3)),
    ...each(({ upstream }) => upstream.toFixed(2)),
    ...each(({ busy, own }) => `${percent(busy)} (${percent(own)} own)`),
    ratio(average, 'direct'),
    ratio(average, 'solo'),
    ratio(average, 'unshared'),
    ratio((pulls) => quantile(pulls, 1), 'solo'),
  ]
}

/** The text of `say` if all rollouts were run. */
function withAll(rollouts: readonly (Rollout | undefined)[], say: (...rollouts: Rollout[]) => string): string {
  const run = rollouts.filter((rollout) => rollout !== undefined)
  return run.length < rollouts.length ? '-' : say(...run)
}

function percent(part: number): string {
  return `${Math.round(part * 100)} %`
}

/** Remarks on rollouts whose bottleneck was not the links. */
export function remarksOn({ results }: Results): string[] {
  return results.flatMap((result) =>
    WAYS.flatMap((way) => {
      const rollout = result[way]
      if (rollout === undefined) return []
      const { busy, waiting, own, upstreamLink } = rollout
      const name = `${nameOf(result)}, ${result.pattern}, ${way}`
      // The registry's link is full: more processors would not help.
      if (upstreamLink >= FULL) return []
      if (busy >= BOUND) {
        const whose = own >= OWN ? 'the bound, and not the links' : 'mostly by others, and may be the bound'
        return [`${name}: processors ${percent(busy)} busy (${percent(own)} own): ${whose}`]
      }
      if (busy + waiting >= BOUND)
        return [`${name}: the disk was waited for ${percent(waiting)} of the time: the bound, and not the links`]
      return []
    }),
  )
}
