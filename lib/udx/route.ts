import type { Family } from './ip.ts'
import type { UDXSocket } from './socket.ts'

/** Where the packets of a stream go: from which socket, to which address, for which stream there. */
export interface Route {
  readonly socket: UDXSocket
  readonly remoteId: number
  readonly port: number
  readonly host: string
  readonly family: Family
}
