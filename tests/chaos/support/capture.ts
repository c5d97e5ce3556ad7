import type { Namespace } from '../../e2e/harness/index.ts'
import { Tcpdump } from '../../e2e/harness/tcpdump.ts'
import { until } from '../../e2e/harness/wait.ts'

/** A TCP connection to the port that was watched, seen from the port's side. */
export interface Flow {
  /** The client's port. */
  readonly client: number
  /** What the port's side ended its part with; nothing if it has not. A RST that follows a FIN is a RST. */
  readonly end: 'FIN' | 'RST' | undefined
  /** How many bytes the port's side had sent by then. */
  readonly sent: number
  /** Whether the client has sent RST: it has gone away by itself. */
  readonly clientReset: boolean
}

/**
 * A packet with SYN, FIN or RST, as tcpdump prints it: `127.0.0.1.5000 > 127.0.0.1.41234: Flags [F.], seq 411`, or `seq 400:411`
 * with data. The numbers are those on the wire: tcpdump can tell where they began of packets with ACK only, and not of a RST
 * for a connection that the kernel does not know any more.
 */
const PACKET = /IP 127\.0\.0\.1\.(\d+) > 127\.0\.0\.1\.(\d+): Flags \[([^\]]+)\], seq (?:\d+:)?(\d+)/g

/** Ports for connections that show that a capture is complete: below those that Linux gives out by itself. */
const FENCE_PORT = 20_000
const FENCE_PORTS = 100

/** Watches how connections to a port on a host's loopback begin and end, with tcpdump. */
export class Capture {
  readonly #tcpdump: Tcpdump

  private constructor(tcpdump: Tcpdump) {
    this.#tcpdump = tcpdump
  }

  /** Begins to watch. {@link stop} must follow. */
  static async start(network: Namespace, port: number): Promise<Capture> {
    const flags = 'tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0'
    return new Capture(await Tcpdump.start(network, port, ['-S', `tcp port ${port} and ${flags}`]))
  }

  /** The connections that were accepted since the beginning, in their order. */
  flows(): Flow[] {
    const flows: ({ -readonly [Name in keyof Flow]: Flow[Name] } & { readonly first: number })[] = []
    for (const [, from = '', to = '', flags = '', sequence] of this.#tcpdump.printed.matchAll(PACKET)) {
      const ours = Number(from) === this.#tcpdump.port
      const client = Number(ours ? to : from)
      // Without an answered SYN there is no connection: it was refused, which is done by RST as well.
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

  /** Waits until all that has happened is printed, ends, and gives the connections that were accepted. */
  async stop(): Promise<Flow[]> {
    try {
      // A connection of our own, answered or refused: when its end is printed, all before it is.
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
