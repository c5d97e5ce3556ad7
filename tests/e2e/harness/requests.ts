import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import type { Namespace } from './namespace.ts'
import { until } from './wait.ts'

/** Bytes of a packet that are kept: containerd's requests have some 600. */
const LONGEST_REQUEST = 4_096
/** KiB for packets that tcpdump has not read yet. */
const BUFFER = 16_384

/** All that is sent to a port on a host's loopback, by tcpdump. */
export class SentRequests {
  readonly #network: Namespace
  readonly #port: number
  readonly #child: ChildProcess
  #sent = ''
  #said = ''

  private constructor(network: Namespace, port: number) {
    this.#network = network
    this.#port = port
    // Room for many packets: each takes as much as the longest that is wanted.
    const room = ['--snapshot-length', String(LONGEST_REQUEST), '--buffer-size', String(BUFFER)]
    const options = ['-i', 'lo', '-n', '-l', '-A', ...room, '--immediate-mode', `tcp dst port ${port}`]
    this.#child = spawn(...network.wrap('tcpdump', options), { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#child.stdout?.on('data', (chunk: Buffer) => {
      this.#sent += chunk.toString('latin1')
    })
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.#said += chunk
    })
  }

  /** Begins to watch. {@link stop} must follow. */
  static async start(network: Namespace, port: number): Promise<SentRequests> {
    const requests = new SentRequests(network, port)
    await until('tcpdump to listen', () => requests.#said.includes('listening on'))
    return requests
  }

  /** The values of all Authorization headers so far, but for one of our own, which shows that none was overlooked. */
  async credentials(): Promise<string[]> {
    const own = `Fence ${randomUUID()}`
    const options = ['--silent', '--output', '/dev/null', '--header', `Authorization: ${own}`]
    await this.#network.exec('curl', [...options, `http://127.0.0.1:${this.#port}/v2/`])
    const shown = () => [...this.#sent.matchAll(/^authorization: (.*?)\r?$/gim)].map(([, value = '']) => value)
    await until('tcpdump to print all that was sent', () => shown().includes(own))
    return shown().filter((value) => !value.startsWith('Fence '))
  }

  /** How many requests came, of a method. */
  count(method: string): number {
    return [...this.#sent.matchAll(new RegExp(`${method} /v2/\\S+ HTTP/1\\.1`, 'g'))].length
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGINT')
    await once(this.#child, 'close')
    if (!/^0 packets dropped by kernel$/m.test(this.#said)) throw new Error(`tcpdump lost packets: ${this.#said}`)
  }
}
