import { Alarm, type UdxClock } from './clock.ts'
import { Congestion } from './congestion.ts'
import { MtuSearch } from './mtu.ts'
import { OutgoingPacket, type Route, SendQueue } from './outgoing.ts'
import { FLAG_DATA, FLAG_END, FLAG_SACK, HEADER_SIZE, type Header, rewriteId } from './packet.ts'
import { ProbeTimer } from './probe-timer.ts'
import { Pacer, RateSampler } from './rate.ts'
import { LossDetection, RoundTripTime } from './recovery.ts'
import { PeerWindow, Scoreboard } from './scoreboard.ts'

/** Transmissions to a packet's original address before the current one is tried: the old path may be gone for good. */
const TRIES_ON_OLD_ROUTE = 3

/** What the sender needs from the connection around it. */
export interface SenderHost {
  /** Bytes that the socket adds to each packet. */
  readonly overhead: number
  /** A buffer for a packet of `size` bytes, with the header for the current route in it. */
  compose(size: number, flags: number, dataOffset: number, seq: number): Uint8Array
  /** Brings the header of a packet that is sent again up to date. */
  refresh(packet: Uint8Array): void
  /** Asks for an acknowledgement, which also states the window. */
  heartbeat(): void
  /** There may be something to send: calls {@link Sender.pump} soon. */
  wake(): void
  /** The peer has not answered for too long. */
  timeout(): void
}

/** The sending side of a stream: cuts the bytes into packets, sends them when it may, and again when they are lost. */
export class Sender {
  readonly board = new Scoreboard()
  mtu: MtuSearch
  /** Bytes written so far. */
  written = 0
  /** Packets that were sent again. */
  retransmits = 0
  readonly #host: SenderHost
  readonly #queue = new SendQueue()
  readonly #window = new PeerWindow()
  readonly #pacer = new Pacer()
  readonly #rate = new RateSampler()
  readonly #rtt = new RoundTripTime()
  readonly #probe: ProbeTimer
  readonly #paceAlarm: Alarm
  readonly #reorderAlarm: Alarm
  readonly #lose = (packet: OutgoingPacket) => this.#onLost(packet)
  readonly #deliver = (packet: OutgoingPacket) => this.#onDelivered(packet)
  #loss = new LossDetection(this.#rtt)
  #congestion = new Congestion()
  #route: Route | undefined
  #end: 'open' | 'wanted' | 'sent' = 'open'
  /** Of the call of {@link onPacket} that runs: its time, and how many packets it has acknowledged. */
  #now = 0
  #delivered = 0
  /** Something has been acknowledged since the last pump. */
  #progress = false

  constructor(host: SenderHost, clock: UdxClock) {
    this.#host = host
    this.mtu = new MtuSearch(host.overhead)
    this.#probe = new ProbeTimer(clock, this.#rtt, {
      probe: (now) => this.#sendProbe(now),
      stall: () => this.#congestion.onStall(),
      giveUp: () => host.timeout(),
    })
    this.#paceAlarm = new Alarm(clock, () => host.wake())
    this.#reorderAlarm = new Alarm(clock, () => this.#detectLoss(clock.now()))
  }

  /** Bytes that no packet carries yet. */
  get backlog(): number {
    return this.#queue.bytes
  }

  /** Whether everything, the end included, has been acknowledged. */
  get finished(): boolean {
    return this.#end === 'sent' && this.board.idle
  }

  /** Bytes acknowledged without a gap. */
  get acknowledged(): number {
    return this.board.oldest?.streamOffset ?? this.written - this.#queue.bytes
  }

  /** Sends to `route` from now on. A change of path forgets what was learnt about the old one (RFC 9000, section 9.4). */
  setRoute(route: Route): void {
    const changed = this.#route !== undefined
    this.#route = route
    if (!changed) return
    this.#rtt.reset()
    this.mtu = new MtuSearch(this.#host.overhead)
    this.#loss = new LossDetection(this.#rtt)
    this.#congestion = new Congestion()
  }

  write(bytes: Uint8Array): void {
    this.#queue.push(bytes)
    this.written += bytes.length
  }

  /** Nothing more will be written. */
  end(): void {
    this.#end = 'wanted'
  }

  /** Handles the acknowledgement in a packet. @returns whether it can be true. */
  onPacket(header: Readonly<Header>, packet: Uint8Array, now: number): boolean {
    const { ack, flags } = header
    if (!this.board.admits(ack)) return false
    if (!this.board.isOld(ack) && this.#window.update(header)) this.#host.wake()
    this.#now = now
    this.#delivered = 0
    if ((flags & FLAG_SACK) !== 0 || !this.board.idle) this.board.acknowledge(header, packet, this.#deliver)
    if (this.#delivered > 0) this.#onProgress(now)
    // The peer lives, though it may have no room.
    if (this.board.flight.length === 0) this.#probe.onHeard()
    return true
  }

  /** Sends what may be sent now. */
  pump(now: number): void {
    const route = this.#route
    if (route === undefined) return
    const rate = this.#congestion.pacingRate
    const window = this.#congestion.window
    let allowance = this.#pacer.available(now, rate)
    let blocked = false
    let restart = this.#progress
    this.#progress = false
    while (this.board.flight.length === 0 || this.board.flight.bytes < window) {
      const again = this.board.lost.first
      if (again === undefined && this.#queue.bytes === 0 && this.#end !== 'wanted') {
        this.#rate.onAppLimited(this.board.flight.bytes)
        break
      }
      if (again === undefined && !this.#fitsWindow()) {
        blocked = true
        break
      }
      if (allowance <= 0) {
        this.#paceAlarm.set(this.#pacer.readyAt(now, rate))
        break
      }
      const size = again === undefined ? this.#sendNew(route, now) : this.#sendAgain(again, now)
      this.#pacer.spend(size)
      restart = true
      allowance -= size
    }
    if (this.board.flight.length > 0 || blocked) this.#probe.wait(now, restart)
    else this.#probe.rest()
  }

  /** Stops all timers and drops all packets. */
  close(): void {
    this.#probe.close()
    this.#paceAlarm.close()
    this.#reorderAlarm.close()
    this.board.clear()
    this.#queue.clear()
    this.#route = undefined
  }

  #fitsWindow(): boolean {
    if (this.#queue.bytes === 0) return true
    const payload = Math.min(this.#queue.bytes, this.mtu.payload)
    return this.board.outstanding + payload <= this.#window.size
  }

  #sendNew(route: Route, now: number): number {
    const most = this.mtu.payload
    const payload = Math.min(most, this.#queue.bytes)
    // Only a full packet is padded: a small one would prove nothing.
    const padding = payload === most ? this.mtu.padding : 0
    const isLast = this.#end === 'wanted' && payload === this.#queue.bytes
    const flags = (payload > 0 ? FLAG_DATA : 0) | (isLast ? FLAG_END : 0)
    const seq = this.board.next
    const bytes = this.#host.compose(HEADER_SIZE + padding + payload, flags, padding, seq)
    if (padding > 0) {
      bytes.fill(0, HEADER_SIZE, HEADER_SIZE + padding)
      this.mtu.onProbeSent()
    }
    const offset = this.written - this.#queue.bytes
    this.#queue.take(bytes, HEADER_SIZE + padding, payload)
    if (isLast) this.#end = 'sent'
    const packet = new OutgoingPacket(seq, bytes, route, offset, padding)
    this.board.add(packet)
    this.#transmit(packet, route, now)
    return bytes.length
  }

  #sendAgain(packet: OutgoingPacket, now: number): number {
    if (packet.padding > 0) packet.unpad()
    this.#host.refresh(packet.bytes)
    let { route } = packet
    if (this.#route !== undefined && packet.transmissions >= TRIES_ON_OLD_ROUTE) route = this.#route
    rewriteId(packet.bytes, route.remoteId)
    this.retransmits++
    this.#transmit(packet, route, now)
    return packet.size
  }

  #transmit(packet: OutgoingPacket, route: Route, now: number): void {
    this.#rate.onSent(packet, now, this.board.flight.length === 0)
    packet.transmissions++
    packet.sentAt = now
    this.board.fly(packet)
    route.socket.transmit(packet.bytes, route.port, route.host)
  }

  #onDelivered(packet: OutgoingPacket): void {
    this.#delivered++
    this.#rate.onAcked(packet)
    this.#loss.onDelivered(packet, this.#now)
    this.mtu.start()
    if (packet.padding > 0 && packet.route === this.#route) this.mtu.onProbeAcked(packet.padding)
  }

  #onProgress(now: number): void {
    const sample = this.#rate.take(now, Math.min(this.#congestion.minRtt, 1e9))
    if (sample.rtt > 0) this.#rtt.sample(sample.rtt)
    this.#probe.onProgress()
    this.#progress = true
    this.#detectLoss(now)
    this.#congestion.onAcked(sample, this.board.flight.bytes, now)
    this.#host.wake()
  }

  #detectLoss(now: number): void {
    this.#reorderAlarm.set(this.#loss.detect(this.board.flight, this.board.sacked, now, this.#lose))
    if (this.board.lost.length > 0) this.#host.wake()
  }

  #onLost(packet: OutgoingPacket): void {
    if (packet.padding > 0) {
      // Most likely lost for its size, which tells nothing of the path's load.
      if (packet.route === this.#route) this.mtu.onProbeLost()
    } else this.#congestion.onLost(packet.size, this.board.flight.bytes)
    this.board.lose(packet)
  }

  /** Nothing has come back for too long: sends the oldest packet again, and a new one if there is any (RFC 9002, 6.2.4). */
  #sendProbe(now: number): void {
    const oldest = this.board.flight.first
    if (oldest !== undefined) this.#sendAgain(oldest, now)
    if (this.#route !== undefined && this.#queue.bytes > 0 && this.#fitsWindow()) this.#sendNew(this.#route, now)
    else if (oldest === undefined) this.#host.heartbeat()
    this.#host.wake()
  }
}
