import {
  FLAG_DESTROY,
  FLAG_SACK,
  FLAGS_NUMBERED,
  HEADER_SIZE,
  type Header,
  readHeader,
} from '../../../../lib/udx/packet.ts'
import { createRandom } from './random.ts'

/** How many packets are passed over before a numbered one is used: by then its number is long acknowledged. */
const STALE_AFTER = 128

/**
 * Makes broken packets of real ones, to be sent beside them. UDX does not authenticate: a packet with the right id and numbers
 * is right, and one that says DESTROY ends the stream. So these break what a receiver can check: the header, the length, the
 * id, numbers that are long past or far ahead, acknowledgements of what was never sent, SACK ranges outside of the flight.
 */
export function createMutator(
  seed: number,
  limit: number,
): { readonly count: number; tap: (bytes: Uint8Array, send: (bytes: Uint8Array) => void) => void } {
  const random = createRandom(seed)
  const below = (n: number) => Math.floor(random() * n)
  let header: Header = { flags: 0, id: 0, seq: 0, ack: 0 }
  const far = (n: number) => (n + 0x4000_0000 + below(0x3000_0000)) >>> 0
  const old: Buffer[] = []
  const mutations: ((packet: Buffer) => Buffer)[] = [
    (packet) => packet.subarray(0, below(HEADER_SIZE)),
    (packet) => Buffer.from(packet.map(() => below(256))).fill(0xfe, 0, 1),
    (packet) => packet.fill(below(255), 0, 1),
    (packet) => packet.fill(2 + below(254), 1, 2),
    (packet) => withNumber(packet, 4, far(packet.readUInt32LE(4))),
    (packet) => {
      // Acknowledges what was never sent, and carries ranges of it.
      const broken = Buffer.concat([
        packet.subarray(0, HEADER_SIZE),
        Buffer.from(Array.from({ length: below(600) }, () => below(256))),
      ])
      broken[2] = FLAG_SACK
      broken[3] = 0
      for (let at = HEADER_SIZE; at + 8 <= broken.length; at += 8) {
        const start = far(header.ack)
        broken.writeUInt32LE(start, at)
        broken.writeUInt32LE(below(2) ? start + below(1000) : start - below(1000), at + 4)
      }
      return withNumber(broken, 16, far(header.ack))
    },
    (packet) => {
      // A number that is far ahead of any window, with a data offset beyond the end.
      packet[2] = (packet[2] as number) & ~(FLAG_DESTROY | FLAG_SACK)
      if (below(2)) packet[3] = below(256)
      return withNumber(withNumber(packet, 12, far(header.seq)), 16, far(header.ack))
    },
    () => {
      // Long acknowledged, and cut off or overwritten behind the header.
      const stale = Buffer.from(old[below(old.length)] as Buffer)
      stale.fill(below(256), Math.min(stale.length, HEADER_SIZE + below(100)))
      return withNumber(stale.subarray(0, HEADER_SIZE + below(stale.length - HEADER_SIZE)), 16, far(header.ack))
    },
  ]
  const state = {
    count: 0,
    tap(bytes: Uint8Array, send: (bytes: Uint8Array) => void) {
      const read = readHeader(bytes)
      if (state.count >= limit || read === undefined) return
      header = read
      if ((header.flags & FLAGS_NUMBERED) !== 0 && header.seq < 64 && old.length < 64 && bytes.length > HEADER_SIZE)
        old.push(Buffer.from(bytes))
      const usable = mutations.length - (old.length > 0 && header.seq > STALE_AFTER ? 0 : 1)
      for (let i = 0; i < 4 && state.count < limit; i++) {
        const mutate = mutations[below(usable)] as (packet: Buffer) => Buffer
        state.count++
        send(mutate(Buffer.from(bytes)))
      }
    },
  }
  return state
}

function withNumber(packet: Buffer, at: number, value: number): Buffer {
  if (packet.length >= at + 4) packet.writeUInt32LE(value >>> 0, at)
  return packet
}
