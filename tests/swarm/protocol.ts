import type { Key } from '../../lib/oci/key.ts'
import type { NodeAddress } from '../../lib/swarm/node.ts'
import type { SwarmOptions } from '../../lib/swarm/swarm.ts'
import type { KeyRange } from './content.ts'

/** What differs from the product's defaults, for all nodes of a swarm. */
export type Tuning = Partial<Omit<SwarmOptions, 'bindHost' | 'self' | 'bootstrap' | 'swarmKeys'>>

/** How a node ends: as on SIGTERM, or without taking back what it announced. */
export type Ending = 'leave' | 'drop'

/** What the process that drives a simulation asks of one that hosts nodes, and what it gets. Times in milliseconds. */
export interface Calls {
  /** Joins the swarm, and waits until the node is ready. */
  start: {
    readonly ask: {
      readonly node: string
      readonly self: NodeAddress
      readonly bootstrap: readonly NodeAddress[]
      /** Where it remembers its identity and neighbours, if it does. */
      readonly dataDir?: string | undefined
      readonly tuning?: Tuning | undefined
    }
    readonly answer: { readonly took: number }
  }
  advertise: { readonly ask: { readonly node: string; readonly ranges: readonly KeyRange[] }; readonly answer: object }
  withdraw: { readonly ask: { readonly node: string; readonly ranges: readonly KeyRange[] }; readonly answer: object }
  /** Waits until all that was advertised and withdrawn has reached the swarm. */
  settle: {
    readonly ask: { readonly node: string; readonly timeout: number }
    readonly answer: { readonly took: number }
  }
  /** Ends with the first peer, unless all are wanted. */
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
  /** `host:port` of each peer found, in the order in which they came. */
  readonly peers: readonly string[]
  /** Until the first peer, or until the end if there was none. */
  readonly took: number
}

/** What a process has used since it began, and what its nodes are at now. */
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
