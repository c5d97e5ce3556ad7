import { parseArgs } from 'node:util'

/**
 * `solo`: one node alone, directly, the least that a pull can take. `unshared`: all nodes directly from a registry whose link has
 * room for all, the least that a rollout can take on this machine.
 */
export const WAYS = ['solo', 'unshared', 'direct', 'mirrored'] as const
export const PATTERNS = ['update', 'create', 'one'] as const

export type Way = (typeof WAYS)[number]
export type Pattern = (typeof PATTERNS)[number]

export interface ImageShape {
  readonly megabytes: number
  readonly layers: number
}

export interface Plan {
  readonly nodes: number
  /** In Mbit/s. */
  readonly link: number
  readonly images: readonly ImageShape[]
  readonly patterns: readonly Pattern[]
  readonly ways: readonly Way[]
  readonly runtime: string
  readonly rounds: number
  /** Seconds for which mirrors run before anything is measured: keepers vouch for their answers only after a minute. */
  readonly age: number
  /** Bytes of the chunks in which containerd 2 fetches a layer by several requests at once; off if missing. */
  readonly parallelFetch: number | undefined
  /** The file for figures, so that parts which run one after another are combined. */
  readonly results: string | undefined
  readonly plot: string | undefined
}

export function nameOf({ megabytes, layers }: ImageShape): string {
  return `${megabytes} MB in ${layers}`
}

/** @throws {Error} for an argument that is not understood */
export function readPlan(args: string[]): Plan {
  const { values } = parseArgs({
    args,
    options: {
      nodes: { type: 'string', default: '10' },
      link: { type: 'string', default: '500' },
      images: { type: 'string', default: '10x1,10x4,100x1,100x4,1000x1,1000x4' },
      patterns: { type: 'string', default: 'update,create' },
      ways: { type: 'string', default: 'solo,direct,mirrored' },
      runtime: { type: 'string', default: 'bun' },
      rounds: { type: 'string', default: '1' },
      age: { type: 'string', default: '65' },
      'parallel-fetch': { type: 'string' },
      results: { type: 'string' },
      plot: { type: 'string' },
    },
  })
  const count = (name: 'nodes' | 'link' | 'rounds' | 'age' | 'parallel-fetch') => {
    const value = Number(values[name])
    if (!Number.isInteger(value) || value < 1)
      throw new Error(`--${name} ${values[name]}: expected a whole number above 0`)
    return value
  }
  const images = values.images.split(',').map((text) => {
    const [, megabytes, layers] = /^([1-9]\d*)x([1-9]\d*)$/.exec(text) ?? []
    if (megabytes === undefined || layers === undefined)
      throw new Error(`--images ${text}: expected MEGABYTESxLAYERS, such as 100x4`)
    return { megabytes: Number(megabytes), layers: Number(layers) }
  })
  const { runtime, results, plot } = values
  return {
    nodes: count('nodes'),
    link: count('link'),
    images,
    patterns: chosen('patterns', values.patterns, PATTERNS),
    ways: chosen('ways', values.ways, WAYS),
    runtime,
    rounds: count('rounds'),
    age: count('age'),
    parallelFetch: values['parallel-fetch'] === undefined ? undefined : count('parallel-fetch'),
    results,
    plot,
  }
}

function chosen<Name extends string>(option: string, given: string, names: readonly Name[]): Name[] {
  return given.split(',').map((text) => {
    const name = names.find((one) => one === text)
    if (name === undefined) throw new Error(`--${option} ${text}: expected ${names.join(', ')}`)
    return name
  })
}
