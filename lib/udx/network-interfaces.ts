import { EventEmitter } from 'node:events'
import { networkInterfaces as systemInterfaces } from 'node:os'
import { Alarm, type Clock } from './clock.ts'

/** One address of this machine. */
export interface NetworkInterface {
  readonly name: string
  readonly host: string
  readonly family: 4 | 6
  /** Loopback. */
  readonly internal: boolean
}

/** How often the addresses are compared, in milliseconds (that of the addon). */
const INTERVAL = 5_000

/** The addresses of this machine at this moment. */
export function networkInterfaces(): NetworkInterface[] {
  const found: NetworkInterface[] = []
  for (const [name, addresses] of Object.entries(systemInterfaces())) {
    for (const { address, family, internal } of addresses ?? []) {
      found.push({ name, host: address, family: family === 'IPv6' ? 6 : 4, internal })
    }
  }
  return found
}

/** Watches the addresses of this machine. Does not keep the process alive. */
export class NetworkInterfaces extends EventEmitter<{ change: [interfaces: NetworkInterface[]]; close: [] }> {
  interfaces: NetworkInterface[]
  readonly #clock: Clock
  readonly #list: () => NetworkInterface[]
  readonly #alarm: Alarm
  #watching = false
  #destroying: Promise<void> | undefined

  constructor(clock: Clock, list: () => NetworkInterface[] = networkInterfaces) {
    super()
    this.#clock = clock
    this.#list = list
    this.interfaces = list()
    this.#alarm = new Alarm(clock, () => this.#compare(), true)
  }

  watch(): this {
    if (this.#watching || this.#destroying !== undefined) return this
    this.#watching = true
    this.#alarm.set(this.#clock.now() + INTERVAL)
    return this
  }

  unwatch(): this {
    this.#watching = false
    this.#alarm.close()
    return this
  }

  destroy(): Promise<void> {
    this.#destroying ??= Promise.resolve().then(() => {
      this.emit('close')
    })
    this.unwatch()
    return this.#destroying
  }

  [Symbol.iterator](): Iterator<NetworkInterface> {
    return this.interfaces[Symbol.iterator]()
  }

  #compare(): void {
    this.#alarm.set(this.#clock.now() + INTERVAL)
    const found = this.#look()
    if (JSON.stringify(found) === JSON.stringify(this.interfaces)) return
    this.interfaces = found
    this.emit('change', found)
  }

  /** What there is; as before where the system cannot say, as when this process has no file descriptor left. */
  #look(): NetworkInterface[] {
    try {
      return this.#list()
    } catch {
      return this.interfaces
    }
  }
}
