import type { Namespace } from '../../e2e/harness/index.ts'
import { Tcpdump } from '../../e2e/harness/tcpdump.ts'
import { until } from '../../e2e/harness/wait.ts'

/** A TCP connection to the watched port, seen from the port's side. */
export interface Flow {
  /** The client's port. */
  readonly client: number
  /** How the port's side ended its part; missing if it did not. RST after FIN counts as RST. */
  readonly end: 'FIN' | 'RST' | undefined
  /** How many bytes the port's side had sent by then. */
  readonly sent: number
  /** Whether the client has sent RST: it left by itself. */
  readonly clientReset: boolean
}

/**
 * A packet with SYN, FIN or RST, as tcpdump prints it: `127.0.0.1.5000 > 127.0.0.1.41234: Flags [F.], seq 411`, or `seq 400:411`
 * with data. The sequence numbers are absolute: tcpdump can make only those of packets with ACK relative, which a RST for a
 * connection that the kernel no longer knows does not have.
 */
const PACKET = /IP 127\.0\.0\.1\.(\d+) > 127\.0\.0\.1\.(\d+): Flags \[([^\]]+)\], seq (?:\d+:)?(\d+)/g

/** Ports of our own connections, which show that a capture is complete: below the range that Linux assigns. */
const FENCE_PORT = 20_000
const FENCE_PORTS = 100

/** Watches with tcpdump how connections to a port on a host's loopback begin and end. */
export class Capture {
  readonly #tcpdump: Tcpdump

  private constructor(tcpdump: Tcpdump) {
    this.#tcpdump = tcpdump
  }

  /** Starts watching. {@link stop} must follow. */
  static async start(network: Namespace, port: number): Promise<Capture> {
    const flags = 'tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0'
    return new Capture(await Tcpdump.start(network, port, ['-S', `tcp port ${port} and ${flags}`]))
  }

  /** The connections accepted since the start, in order. */
  flows(): Flow[] {
    const flows: ({ -readonly [Name in keyof Flow]: Flow[Name] } & { readonly first: number })[] = []
    for (const [, from = '', to = '', flags = '', sequence] of this.#tcpdump.printed.matchAll(PACKET)) {
      const ours = Number(from) === this.#tcpdump.port
      const client = Number(ours ? to : from)
      // Without an answered SYN there is no connection: RST also refuses one.
      if (ours && flags.includes('S'))
        flows.push({ client, end: undefined, sent: 0, clientReset: false, first: Number(sequence) + 1 })
      const flow = flows.findLast((flow) => flow.client === client)
      if (flow === undefined) continue
      if (ours && /[FR]/.test(flags)) flow.sent = (Number(sequence) - flow.first) >>> 0
      if (flags.includes('R') && ours) flow.end = 'RST'
      else if (flags.includes('R')) flow.clientReset = true
      else if (flags.includes('F') && ours) flow.end ??= 'FIN'
    }
    return flows.map(({ first: _, ...flow }) => flow)
  }

  /** Waits until everything so far is printed, stops, and returns the accepted connections. */
  async stop(): Promise<Flow[]> {
    try {
      // Once tcpdump prints the end of our own connection, answered or refused, it has printed everything before.
      const options = ['--silent', '--output', '/dev/null', '--local-port', `${FENCE_PORT}-${FENCE_PORT + FENCE_PORTS}`]
      await this.#tcpdump.network.tryExec('curl', [...options, `http://127.0.0.1:${this.#tcpdump.port}/`])
      const packets = () => [...this.#tcpdump.printed.matchAll(PACKET)]
      await until('the capture to be complete', () =>
        packets().some(([, from, to, flags = '']) => /[FR]/.test(flags) && (isFence(from) || isFence(to))),
      )
    } finally {
      await this.#tcpdump.stop()
    }
    return this.flows().filter(({ client }) => !isFence(client))
  }
}

function isFence(port: string | number | undefined): boolean {
  return Number(port) >= FENCE_PORT && Number(port) <= FENCE_PORT + FENCE_PORTS
}
