import { createSocket, type Socket } from 'node:dgram'
import type { NodeAddress } from '../../lib/swarm/node.ts'

/** The port of all nodes: as in a cluster, each has its own address and all have the same port. */
const PORT = 5_001
/** Second bytes of 127.x.y.z to try: not 0, which everything else on loopback uses. */
const FIRST_BLOCK = 16
const BLOCKS = 200
const HOSTS = 250

/** Loopback addresses that no other simulation on this machine uses; each is handed out once. */
export class AddressBlock {
  readonly #block: number
  /** Bound while the block is in use, at an address that no node gets. */
  readonly #lock: Socket
  #given = 0

  private constructor(block: number, lock: Socket) {
    this.#block = block
    this.#lock = lock
  }

  /** @param seed where to look first: if that block is free, a seed gives the same addresses, and so the same node ids */
  static async reserve(seed: number): Promise<AddressBlock> {
    for (let attempt = 0; attempt < BLOCKS; attempt++) {
      const block = FIRST_BLOCK + ((seed + attempt) % BLOCKS)
      const lock = await bound(`127.${block}.255.254`)
      if (lock !== undefined) return new AddressBlock(block, lock)
    }
    throw new Error(`all ${BLOCKS} blocks of loopback addresses are in use`)
  }

  next(): NodeAddress {
    const index = this.#given++
    return { host: `127.${this.#block}.${1 + Math.floor(index / HOSTS)}.${1 + (index % HOSTS)}`, port: PORT }
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => this.#lock.close(() => resolve()))
  }
}

/** A socket at that address; `undefined` if it is taken. */
async function bound(host: string): Promise<Socket | undefined> {
  const socket = createSocket('udp4')
  return await new Promise((resolve, reject) => {
    socket.once('error', (error: NodeJS.ErrnoException) => {
      socket.close()
      if (error.code === 'EADDRINUSE') resolve(undefined)
      else reject(error)
    })
    socket.bind({ address: host, port: PORT, exclusive: true }, () => resolve(socket))
  })
}
