import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type CommandOptions, type CommandResult, run, tryRun } from './command.ts'
import { namespaceFiles } from './run.ts'

/** The smallest bucket of a shaped link, in bytes: one full-size segment of a veth link must fit. */
const LEAST_BURST = 64 << 10

/** How long a packet may wait in a shaped link before it is dropped, in milliseconds: as much as a busy switch buffers. */
const SHAPED_LATENCY_MS = 50

/**
 * The size of the headers of Ethernet, IPv4 and TCP with a timestamp, in bytes. A veth link carries a train of segments as one
 * packet, and counts it as one. Everything else here (ARP, the swarm's UDP) is small beside a pull.
 */
const HEADERS = 14 + 20 + 32

/** The nftables table that holds all faults of a namespace. */
const FAULTS = 'inet faults'

/** A host's network: its namespace, and the faults that can be put on it. */
export class Namespace {
  /** The name for `ip netns`. */
  readonly name: string
  /** Its IPv4 address on the bridge. */
  readonly address: string
  readonly #bridge: string
  readonly #port: string

  /** @param place the namespace of the bridge, and the name of this host's port there */
  constructor(place: { name: string; address: string; bridge: string; port: string }) {
    this.name = place.name
    this.address = place.address
    this.#bridge = place.bridge
    this.#port = place.port
  }

  /** The command line that runs a command in here. The process keeps the pid of the spawned one. */
  wrap(command: string, args: readonly string[]): [command: string, args: string[]] {
    return ['ip', ['netns', 'exec', this.name, command, ...args]]
  }

  /** Runs a command in this namespace to its end, whatever its exit code. */
  tryExec(command: string, args: readonly string[], options?: CommandOptions): Promise<CommandResult> {
    return tryRun(...this.wrap(command, args), options)
  }

  /** Runs a command in this namespace that must succeed, and returns its standard output. */
  exec(command: string, args: readonly string[], options?: CommandOptions): Promise<string> {
    return run(...this.wrap(command, args), options)
  }

  /**
   * Sets what host names resolve to in this namespace, at once and also for running processes. A name may have several
   * addresses, like that of a headless service.
   */
  async setNames(names: Readonly<Record<string, readonly string[]>>): Promise<void> {
    const lines = Object.entries(names).flatMap(([name, addresses]) => addresses.map((address) => `${address} ${name}`))
    // Written in place: processes have this very file mounted over their /etc/hosts
    await writeFile(join(namespaceFiles(this.name), 'hosts'), ['127.0.0.1 localhost', ...lines, ''].join('\n'))
  }

  /** Silently drops every packet from and to other hosts, like a pulled cable. */
  async cutOff(): Promise<void> {
    await this.#setFaults('drop')
  }

  /** Randomly drops this share of the packets from other hosts. */
  async loseIncoming(percent: number): Promise<void> {
    if (!Number.isInteger(percent) || percent < 0 || percent > 100) throw new RangeError(`${percent} percent`)
    // nftables refuses a comparison that is always true.
    await this.#setFaults(percent === 100 ? 'drop' : `numgen random mod 100 < ${percent} drop`, 'accept')
  }

  /** Answers every TCP packet from other hosts with RST, like a restarted host that knows no connection. */
  async resetIncoming(): Promise<void> {
    await this.#setFaults('meta l4proto tcp reject with tcp reset', 'accept')
  }

  /**
   * Silently drops packets to and from other hosts that are longer than that, in bytes with IP header, like a path that carries
   * less than the hosts believe and whose complaints are filtered. Connections open, and small answers come.
   */
  async loseLarge(bytes: number): Promise<void> {
    await this.#setFaults(`meta length > ${bytes} drop`)
  }

  /** Ends {@link cutOff}, {@link loseIncoming}, {@link loseLarge} and {@link resetIncoming}. */
  async heal(): Promise<void> {
    await this.exec('nft', ['--file', '-'], { input: `table ${FAULTS}\ndelete table ${FAULTS}\n` })
  }

  /** Bounds how fast this host sends (`out`) or receives (`in`), in bytes per second. */
  async shape(direction: 'in' | 'out', bytesPerSecond: number): Promise<void> {
    const burst = Math.max(LEAST_BURST, Math.ceil(bytesPerSecond / 100))
    const rate = ['rate', `${bytesPerSecond * 8}bit`, 'burst', `${burst}b`, 'latency', `${SHAPED_LATENCY_MS}ms`]
    await run('tc', [...this.#end(direction), 'tbf', ...rate])
  }

  /** Ends {@link shape} in that direction, if there was one. */
  async unshape(direction: 'in' | 'out'): Promise<void> {
    await run('tc', [...this.#end(direction), 'noqueue'])
  }

  /** The bytes that this host has received and sent in TCP segments so far, without headers (nearly: see below). */
  async carried(): Promise<{ in: number; out: number }> {
    const files = ['rx_bytes', 'rx_packets', 'tx_bytes', 'tx_packets'].map(
      (name) => `/sys/class/net/eth0/statistics/${name}`,
    )
    const [inBytes = 0, inPackets = 0, outBytes = 0, outPackets = 0] = (await this.exec('cat', files))
      .split('\n')
      .map(Number)
    return { in: inBytes - inPackets * HEADERS, out: outBytes - outPackets * HEADERS }
  }

  async #setFaults(incoming: string, outgoing = incoming): Promise<void> {
    const chain = (hook: 'input' | 'output', interfaceKey: string, rule: string) =>
      `  chain ${hook} { type filter hook ${hook} priority 0; ${interfaceKey} "lo" accept; ${rule}; }`
    const chains = [chain('input', 'iif', incoming), chain('output', 'oif', outgoing)]
    const input = [`table ${FAULTS}`, `delete table ${FAULTS}`, `table ${FAULTS} {`, ...chains, '}', ''].join('\n')
    await this.exec('nft', ['--file', '-'], { input })
  }

  /** Links are shaped at the sending end: on the host for `out`, on the bridge's port for `in`. */
  #end(direction: 'in' | 'out'): string[] {
    const [namespace, device] = direction === 'out' ? [this.name, 'eth0'] : [this.#bridge, this.#port]
    return ['-netns', namespace, 'qdisc', 'replace', 'dev', device, 'root']
  }
}
