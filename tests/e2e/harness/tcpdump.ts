import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Namespace } from './namespace.ts'
import { until } from './wait.ts'

/** The traffic to and from a port on a host's loopback, as tcpdump prints it: each packet as soon as tcpdump sees it. */
export class Tcpdump {
  readonly network: Namespace
  readonly port: number
  /** Everything printed so far. */
  printed = ''
  readonly #child: ChildProcess
  #said = ''

  private constructor(network: Namespace, port: number, args: readonly string[]) {
    this.network = network
    this.port = port
    const options = ['-i', 'lo', '-n', '-l', '--immediate-mode', ...args]
    this.#child = spawn(...network.wrap('tcpdump', options), { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#child.stdout?.on('data', (chunk: Buffer) => {
      this.printed += chunk.toString('latin1')
    })
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.#said += chunk
    })
  }

  /**
   * Starts watching. {@link stop} must follow.
   *
   * @param args options, and a filter for packets
   */
  static async start(network: Namespace, port: number, args: readonly string[]): Promise<Tcpdump> {
    const tcpdump = new Tcpdump(network, port, args)
    await until('tcpdump to listen', () => tcpdump.#said.includes('listening on'))
    return tcpdump
  }

  /** @throws {Error} if it missed packets */
  async stop(): Promise<void> {
    this.#child.kill('SIGINT')
    await once(this.#child, 'close')
    if (!/^0 packets dropped by kernel$/m.test(this.#said)) throw new Error(`tcpdump lost packets: ${this.#said}`)
  }
}
