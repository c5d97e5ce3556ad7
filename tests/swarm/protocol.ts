import type { Key } from '../../lib/oci/key.ts'
import type { NodeAddress } from '../../lib/swarm/node.ts'
import type { SwarmOptions } from '../../lib/swarm/swarm.ts'
import type { KeyRange } from './content.ts'

/** Differences from the product's defaults, for all nodes of a swarm. */
export type Tuning = Partial<Omit<SwarmOptions, 'bindHost' | 'self' | 'bootstrap' | 'swarmKeys'>>

/** How a node ends: as on SIGTERM, or without withdrawing its announcements. */
export type Ending = 'leave' | 'drop'

/** The calls of the process that drives a simulation to one that hosts nodes, and their results. Times in milliseconds. */
export interface Calls {
  /** Joins the swarm, and waits until the node is ready. */
  start: {
    readonly ask: {
      readonly node: string
      readonly self: NodeAddress
      readonly bootstrap: readonly NodeAddress[]
      /** Where it remembers its identity and neighbours, if anywhere. */
      readonly dataDir?: string | undefined
      readonly tuning?: Tuning | undefined
    }
    readonly answer: { readonly took: number }
  }
  advertise: { readonly ask: { readonly node: string; readonly ranges: readonly KeyRange[] }; readonly answer: object }
  withdraw: { readonly ask: { readonly node: string; readonly ranges: readonly KeyRange[] }; readonly answer: object }
  /** Waits until everything advertised and withdrawn has reached the swarm. */
  settle: {
    readonly ask: { readonly node: string; readonly timeout: number }
    readonly answer: { readonly took: number }
  }
  /** Ends with the first peer, unless the caller wants all. */
  lookup: {
    readonly ask: { readonly node: string; readonly key: Key; readonly timeout: number; readonly all: boolean }
    readonly answer: Lookup
  }
  stop: {
    readonly ask: { readonly node: string; readonly how: Ending }
    readonly answer: { readonly took: number; readonly complete: boolean }
  }
  usage: { readonly ask: object; readonly answer: Usage }
}

export interface Lookup {
  /** `host:port` of each peer, in the order of their discovery. */
  readonly peers: readonly string[]
  /** The time until the first peer, or until the end if there was none. */
  readonly took: number
}

/** What a process has used since its start, and the present state of its nodes. */
export interface Usage {
  readonly cpu: number
  readonly residentMebibytes: number
  readonly nodes: readonly NodeUsage[]
}

export interface NodeUsage {
  readonly node: string
  readonly neighbours: number
  /** Records that it keeps for the swarm. */
  readonly records: number
  /** Requests of its DHT so far: sent, sent again, and given up. */
  readonly requests: number
  readonly retries: number
  readonly timeouts: number
  /** Datagrams that its UDP socket received so far, of DHT and streams. */
  readonly received: number
}
