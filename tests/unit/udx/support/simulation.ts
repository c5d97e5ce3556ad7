import type { Clock } from '../../../../lib/platform/clock.ts'
import { type DatagramBackend, type OnDatagram, UDX } from '../../../../lib/udx/index.ts'
import { createRandom } from './random.ts'

/** How the simulated network treats datagrams. Times in milliseconds, shares from 0 to 1. */
export interface Path {
  readonly delay?: number
  /** A datagram takes up to this much longer, so that others may overtake it. */
  readonly jitter?: number
  readonly loss?: number
  readonly duplication?: number
  /** Bytes per millisecond of the bottleneck, and bytes that may queue before it. */
  readonly bandwidth?: number
  readonly queue?: number
  /** Largest datagram that gets through, IP and UDP headers included. */
  readonly mtu?: number
}

interface Event {
  readonly at: number
  readonly order: number
  readonly run: () => void
}

const UDP_HEADERS = 28
const FIRST_PORT = 20_000

/**
 * A network of UDX instances with a clock of its own. Nothing in it takes real time, and the same seed gives the same run.
 */
export class Simulation {
  path: Path
  /** Called for every datagram, and drops it by returning false. */
  filter: (bytes: Buffer, fromPort: number, toPort: number) => boolean = () => true
  readonly clock: Clock
  /** Resources that are not released yet. */
  readonly open = { timers: 0, sockets: 0 }
  readonly sent = { datagrams: 0, bytes: 0 }
  readonly #random: () => number
  readonly #events: Event[] = []
  readonly #sockets = new Map<number, OnDatagram>()
  #now = 0
  #order = 0
  #nextPort = FIRST_PORT
  #linkFreeAt = new Map<number, number>()

  constructor(path: Path = {}, seed = 1) {
    this.path = path
    this.#random = createRandom(seed)
    this.clock = {
      now: () => this.#now,
      after: (delay, run) => {
        this.open.timers++
        let alive = true
        const cancel = () => {
          if (alive) this.open.timers--
          alive = false
        }
        this.#at(this.#now + delay, () => {
          if (!alive) return
          cancel()
          run()
        })
        return cancel
      },
    }
  }

  get now(): number {
    return this.#now
  }

  /** An instance on this network. */
  createUDX(): UDX {
    return new UDX({ clock: this.clock, backend: this.#backend() })
  }

  /** Sends any datagram. */
  inject(bytes: Buffer, fromPort: number, toPort: number): void {
    this.#deliver(bytes, fromPort, toPort, 0)
  }

  /** Runs until the condition holds. @throws if it does not within `limit` milliseconds of simulated time. */
  async until(condition: () => boolean, limit = 60_000): Promise<void> {
    const end = this.#now + limit
    await settle()
    while (!condition()) {
      const next = this.#events[0]
      if (next === undefined || next.at > end) throw new Error(`it did not happen within ${limit} ms`)
      await this.#step(next.at)
    }
  }

  /** Runs for some milliseconds of simulated time. */
  async for(time: number): Promise<void> {
    const end = this.#now + time
    await settle()
    for (let next = this.#events[0]; next !== undefined && next.at <= end; next = this.#events[0])
      await this.#step(next.at)
    this.#now = end
  }

  async #step(at: number): Promise<void> {
    this.#now = at
    while (this.#events[0] !== undefined && this.#events[0].at <= at) this.#pop().run()
    await settle()
  }

  #backend(): DatagramBackend {
    return {
      bind: (options, onDatagram) => {
        const port = this.#bind(options.port, onDatagram)
        this.open.sockets++
        return {
          port,
          send: (bytes, toPort) => this.#transmit(Buffer.from(bytes), port, toPort),
          close: () => {
            this.open.sockets--
            this.#sockets.delete(port)
            return Promise.resolve()
          },
        }
      },
    }
  }

  #bind(wanted: number, onDatagram: OnDatagram): number {
    const port = wanted === 0 ? this.#nextPort++ : wanted
    if (this.#sockets.has(port)) throw Object.assign(new Error('address in use'), { code: 'EADDRINUSE' })
    this.#sockets.set(port, onDatagram)
    return port
  }

  #transmit(bytes: Buffer, from: number, to: number): void {
    const { loss = 0, duplication = 0, mtu = 65_536 } = this.path
    this.sent.datagrams++
    this.sent.bytes += bytes.length
    if (bytes.length + UDP_HEADERS > mtu || !this.filter(bytes, from, to) || this.#random() < loss) return
    this.#deliver(bytes, from, to, this.#queueing(bytes.length, from))
    if (this.#random() < duplication) this.#deliver(bytes, from, to, 0)
  }

  /** Time until the bottleneck has passed a datagram on; infinity if its queue is full. */
  #queueing(size: number, from: number): number {
    const { bandwidth, queue = Number.POSITIVE_INFINITY } = this.path
    if (bandwidth === undefined) return 0
    const free = Math.max(this.#now, this.#linkFreeAt.get(from) ?? 0)
    if ((free - this.#now) * bandwidth > queue) return Number.POSITIVE_INFINITY
    this.#linkFreeAt.set(from, free + size / bandwidth)
    return free + size / bandwidth - this.#now
  }

  #deliver(bytes: Buffer, from: number, to: number, queueing: number): void {
    if (queueing === Number.POSITIVE_INFINITY) return
    const { delay = 1, jitter = 0 } = this.path
    const copy = Buffer.from(bytes)
    this.#at(this.#now + queueing + delay + (jitter > 0 ? this.#random() * jitter : 0), () => {
      this.#sockets.get(to)?.(copy, from, '127.0.0.1')
    })
  }

  /** Puts an event into the heap. */
  #at(at: number, run: () => void): void {
    const events = this.#events
    const event = { at, order: this.#order++, run }
    let i = events.length
    events.push(event)
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (!before(event, events[parent] as Event)) break
      events[i] = events[parent] as Event
      i = parent
    }
    events[i] = event
  }

  #pop(): Event {
    const events = this.#events
    const first = events[0] as Event
    const last = events.pop() as Event
    if (events.length === 0) return first
    let i = 0
    for (;;) {
      let child = 2 * i + 1
      if (child >= events.length) break
      if (child + 1 < events.length && before(events[child + 1] as Event, events[child] as Event)) child++
      if (!before(events[child] as Event, last)) break
      events[i] = events[child] as Event
      i = child
    }
    events[i] = last
    return first
  }
}

function before(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}

/** Lets what streamx has put into the microtask queue run, as it would between two turns of the event loop. */
function settle(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}
