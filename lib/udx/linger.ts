import b4a from 'b4a'
import { Alarm, type UdxClock } from './clock.ts'
import type { PacketSocket, Route } from './outgoing.ts'
import { FLAG_DESTROY, FLAGS_NUMBERED, HEADER_SIZE, type Header, seqBefore, writeHeader } from './packet.ts'
import { GIVE_UP_TIME } from './probe-timer.ts'

/**
 * How long a closed stream is remembered, in milliseconds: as long as a peer that missed the last packet keeps asking. A few
 * seconds turned out to be too short when a fifth of the packets is lost each way.
 */
export const LINGER_TIME = GIVE_UP_TIME + 2_000
/** Most closed streams that are remembered. */
const MAX_LINGERING = 4_096

interface Departed {
  readonly route: Route
  /** Flags of the answer: DESTROY, or none if both sides had ended. */
  readonly flags: number
  readonly seq: number
  readonly ack: number
  /** Time of the clock until which it is remembered. */
  readonly until: number
}

/**
 * Answers for streams that are closed (TIME_WAIT). The addon does not: there, a lost last acknowledgement or a lost DESTROY
 * makes the peer wait until it times out. Keeps neither the process alive nor a socket open.
 */
export class Linger {
  readonly #clock: UdxClock
  readonly #alarm: Alarm
  readonly #departed = new Map<number, Departed>()

  constructor(clock: UdxClock) {
    this.#clock = clock
    this.#alarm = new Alarm(clock, () => this.#expire(), true)
  }

  /** How many are remembered. */
  get size(): number {
    return this.#departed.size
  }

  add(id: number, route: Route, flags: number, seq: number, ack: number): void {
    if (this.#departed.size >= MAX_LINGERING) return
    const until = this.#clock.now() + LINGER_TIME
    this.#departed.set(id, { route, flags, seq, ack, until })
    if (this.#departed.size === 1) this.#alarm.set(until)
  }

  /** Forgets a stream, as when its id is used again. */
  forget(id: number): void {
    if (this.#departed.delete(id) && this.#departed.size === 0) this.#alarm.close()
  }

  /** Repeats the last word of the streams of a socket that is about to close, since nobody will answer from now on. */
  takeLeave(socket: PacketSocket): void {
    for (const [id, departed] of this.#departed) {
      if (departed.route.socket !== socket) continue
      answer(departed, departed.seq)
      this.forget(id)
    }
  }

  /** Answers a packet for a stream that is closed. @returns whether there was one. */
  onPacket(header: Readonly<Header>): boolean {
    const departed = this.#departed.get(header.id)
    if (departed === undefined) return false
    if ((header.flags & FLAG_DESTROY) !== 0) this.forget(header.id)
    // With a number that the peer does not take for old.
    else if (departed.flags === FLAG_DESTROY)
      answer(departed, seqBefore(departed.seq, header.ack) ? header.ack : departed.seq)
    else if ((header.flags & FLAGS_NUMBERED) !== 0) answer(departed, departed.seq)
    return true
  }

  #expire(): void {
    const now = this.#clock.now()
    for (const [id, { until }] of this.#departed) {
      if (until > now) {
        this.#alarm.set(until)
        return
      }
      this.#departed.delete(id)
    }
  }
}

function answer({ route, flags, ack }: Departed, seq: number): void {
  const bytes = b4a.allocUnsafe(HEADER_SIZE)
  writeHeader(bytes, { flags, dataOffset: 0, id: route.remoteId, rwnd: 0, seq, ack })
  route.socket.transmit(bytes, route.port, route.host)
}
