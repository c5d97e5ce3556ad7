import { EventEmitter } from 'node:events'
import { networkInterfaces as systemInterfaces } from 'node:os'
import { Alarm, type UdxClock } from './clock.ts'

/** One address of this machine. */
export interface NetworkInterface {
  readonly name: string
  readonly host: string
  readonly family: 4 | 6
  /** Loopback. */
  readonly internal: boolean
}

/** How often the addresses are compared, in milliseconds, as in the addon. */
const INTERVAL = 5_000

/** The addresses of this machine at this moment. */
export function networkInterfaces(): NetworkInterface[] {
  const found: NetworkInterface[] = []
  for (const [name, addresses] of Object.entries(systemInterfaces())) {
    for (const { address, family, internal } of addresses ?? [])
      found.push({ name, host: address, family: family === 'IPv6' ? 6 : 4, internal })
  }
  return found
}

/** Watches the addresses of this machine from the start, without keeping the process alive. */
export class NetworkInterfaces extends EventEmitter<{ change: [interfaces: NetworkInterface[]] }> {
  interfaces: NetworkInterface[]
  readonly #clock: UdxClock
  readonly #list: () => NetworkInterface[]
  readonly #alarm: Alarm

  constructor(clock: UdxClock, list: () => NetworkInterface[] = networkInterfaces) {
    super()
    this.#clock = clock
    this.#list = list
    this.interfaces = list()
    this.#alarm = new Alarm(clock, () => this.#compare(), true)
    this.#alarm.set(clock.now() + INTERVAL)
  }

  destroy(): Promise<void> {
    this.#alarm.close()
    return Promise.resolve()
  }

  #compare(): void {
    this.#alarm.set(this.#clock.now() + INTERVAL)
    let found = this.interfaces
    try {
      found = this.#list()
    } catch {
      // The process may have no file descriptor left. It is asked again.
    }
    if (JSON.stringify(found) === JSON.stringify(this.interfaces)) return
    this.interfaces = found
    this.emit('change', found)
  }
}
