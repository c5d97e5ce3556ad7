import { Alarm, type Clock } from './clock.ts'
import { FLAG_DESTROY, FLAGS_NUMBERED, HEADER_SIZE, type Header, writeHeader } from './packet.ts'
import { GIVE_UP_TIME } from './probe-timer.ts'
import type { Route } from './route.ts'
import { seqAdd, seqBefore } from './seq.ts'

/**
 * How long a closed stream is remembered in milliseconds: as long as a peer that lost the last packet goes on asking. Under loss
 * of a fifth each way, a few seconds were seen to be too short.
 */
export const LINGER_TIME = GIVE_UP_TIME + 2_000
/** Most closed streams that are remembered. */
const MAX_LINGERING = 4_096

interface Departed {
  readonly route: Route
  readonly kind: 'ended' | 'destroyed'
  readonly seq: number
  ack: number
  readonly until: number
}

/**
 * Answers for streams that are closed (TIME_WAIT). The addon has none of that: there, a lost last acknowledgement lets the
 * peer wait until it times out, as does a lost DESTROY. Does not keep the process alive, nor a socket open.
 */
export class Linger {
  readonly #clock: Clock
  readonly #alarm: Alarm
  readonly #departed = new Map<number, Departed>()

  constructor(clock: Clock) {
    this.#clock = clock
    this.#alarm = new Alarm(clock, () => this.#expire(), true)
  }

  /** How many are remembered. */
  get size(): number {
    return this.#departed.size
  }

  add(id: number, route: Route, kind: Departed['kind'], seq: number, ack: number): void {
    if (this.#departed.size >= MAX_LINGERING) return
    const until = this.#clock.now() + LINGER_TIME
    this.#departed.set(id, { route, kind, seq, ack, until })
    if (this.#departed.size === 1) this.#alarm.set(until)
  }

  /** The id is in use again. */
  forget(id: number): void {
    if (this.#departed.delete(id) && this.#departed.size === 0) this.#alarm.close()
  }

  /** The socket is about to close: says the last word of its streams once more, since nobody will answer from now on. */
  takeLeave(socket: Route['socket']): void {
    for (const [id, departed] of this.#departed) {
      if (departed.route.socket !== socket) continue
      this.#answer(departed, departed.kind === 'destroyed' ? FLAG_DESTROY : 0, departed.seq)
      this.forget(id)
    }
  }

  /** Answers a packet for a stream that is closed. @returns whether there was one. */
  onPacket(header: Readonly<Header>): boolean {
    const departed = this.#departed.get(header.id)
    if (departed === undefined) return false
    if ((header.flags & FLAG_DESTROY) !== 0) {
      this.forget(header.id)
      return true
    }
    if (departed.kind === 'destroyed') {
      // Its number has to be one that the peer does not take for old.
      const seq = seqBefore(departed.seq, header.ack) ? header.ack : departed.seq
      this.#answer(departed, FLAG_DESTROY, seq)
    } else if ((header.flags & FLAGS_NUMBERED) !== 0) {
      this.#answer(departed, 0, departed.seq)
    }
    return true
  }

  #answer({ route, ack }: Departed, flags: number, seq: number): void {
    const bytes = Buffer.allocUnsafe(HEADER_SIZE)
    writeHeader(bytes, { flags, dataOffset: 0, id: route.remoteId, rwnd: 0, seq: seqAdd(seq, 0), ack })
    route.socket.transmit(bytes, route.port, route.host)
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
