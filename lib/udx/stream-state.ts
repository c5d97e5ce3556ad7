import { Duplex, type DuplexEvents } from 'streamx'
import type { Connection } from './connection.ts'
import type { Family } from './ip.ts'
import type { Route } from './route.ts'
import type { UDXSocket } from './socket.ts'

export interface StreamEvents extends DuplexEvents {
  connect: []
  /** An unordered, unreliable message. */
  message: [bytes: Buffer]
  'remote-changed': []
}

/** What can be asked of a stream: where it goes, and how that is going. */
export abstract class StreamState extends Duplex<StreamEvents> {
  /** By which the peer addresses this end. */
  abstract readonly id: number
  protected abstract readonly connection: Connection

  protected get route(): Route | undefined {
    return this.connection.closed ? undefined : this.connection.route
  }

  get socket(): UDXSocket | null {
    return this.route?.socket ?? null
  }

  get connected(): boolean {
    return this.route !== undefined
  }

  get remoteId(): number {
    return this.connection.route?.remoteId ?? 0
  }

  get remoteHost(): string | null {
    return this.connection.route?.host ?? null
  }

  get remoteFamily(): Family | 0 {
    return this.connection.route?.family ?? 0
  }

  get remotePort(): number {
    return this.connection.route?.port ?? 0
  }

  get localHost(): string | null {
    return this.socket?.address()?.host ?? null
  }

  get localFamily(): Family | 0 {
    return this.socket?.address()?.family ?? 0
  }

  get localPort(): number {
    return this.socket?.address()?.port ?? 0
  }

  /** Largest packet in bytes, IP and UDP headers included. */
  get mtu(): number {
    return this.connection.sender.mtu
  }

  /** Smoothed round-trip time in milliseconds. */
  get rtt(): number {
    return Math.round(this.connection.sender.rtt.smoothed)
  }

  /** Bytes that may be in flight. */
  get cwnd(): number {
    return this.connection.sender.congestion.window
  }

  /** Bytes in flight. */
  get inflight(): number {
    return this.connection.sender.inFlight
  }

  /** Packets that were sent again. */
  get retransmits(): number {
    return this.connection.sender.retransmits
  }

  toJSON(): Record<string, unknown> {
    const { id, connected, destroying, destroyed, remoteId, remoteHost, remoteFamily, remotePort } = this
    const { mtu, rtt, cwnd, inflight } = this
    const socket = this.socket?.toJSON() ?? null
    return {
      id,
      connected,
      destroying,
      destroyed,
      remoteId,
      remoteHost,
      remoteFamily,
      remotePort,
      mtu,
      rtt,
      cwnd,
      inflight,
      socket,
    }
  }
}
