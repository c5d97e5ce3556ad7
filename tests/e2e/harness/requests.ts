import { randomUUID } from 'node:crypto'
import type { Namespace } from './namespace.ts'
import { Tcpdump } from './tcpdump.ts'
import { until } from './wait.ts'

/** How many bytes of a packet tcpdump keeps: containerd's requests have some 600. */
const LONGEST_REQUEST = 4_096
/** The buffer for packets that tcpdump has not read yet, in KiB. */
const BUFFER = 16_384

/** Everything that is sent to a port on a host's loopback, captured by tcpdump. */
export class SentRequests {
  readonly #tcpdump: Tcpdump

  private constructor(tcpdump: Tcpdump) {
    this.#tcpdump = tcpdump
  }

  /** Starts watching. {@link stop} must follow. */
  static async start(network: Namespace, port: number): Promise<SentRequests> {
    // Room for many packets, each of which takes as much as the longest.
    const room = ['--snapshot-length', String(LONGEST_REQUEST), '--buffer-size', String(BUFFER)]
    return new SentRequests(await Tcpdump.start(network, port, ['-A', ...room, `tcp dst port ${port}`]))
  }

  /** The values of all Authorization headers so far, except one of our own, which shows that none was overlooked. */
  async credentials(): Promise<string[]> {
    const own = `Fence ${randomUUID()}`
    const options = ['--silent', '--output', '/dev/null', '--header', `Authorization: ${own}`]
    await this.#tcpdump.network.exec('curl', [...options, `http://127.0.0.1:${this.#tcpdump.port}/v2/`])
    const shown = () =>
      [...this.#tcpdump.printed.matchAll(/^authorization: (.*?)\r?$/gim)].map(([, value = '']) => value)
    await until('tcpdump to print all that was sent', () => shown().includes(own))
    return shown().filter((value) => !value.startsWith('Fence '))
  }

  /** How many requests of a method came. */
  count(method: string): number {
    return [...this.#tcpdump.printed.matchAll(new RegExp(`${method} /v2/\\S+ HTTP/1\\.1`, 'g'))].length
  }

  async stop(): Promise<void> {
    await this.#tcpdump.stop()
  }
}
