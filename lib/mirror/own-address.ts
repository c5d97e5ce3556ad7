import { networkInterfaces } from 'node:os'
import type { Logger } from '../observe/log.ts'
import type { Readiness } from '../observe/readiness.ts'
import { type Clock, systemClock } from '../platform/clock.ts'

/** Milliseconds between two looks at this machine's addresses. */
const INTERVAL = 10_000

/**
 * This machine's IPv4 addresses and the names of their interfaces. A look costs a system call for each interface, of which a node
 * with many pods has hundreds.
 */
export function ipv4Addresses(interfaces = networkInterfaces) {
  return Object.entries(interfaces()).flatMap(([name, all = []]) =>
    all.filter(({ family }) => family === 'IPv4').map(({ address, internal }) => ({ name, address, internal })),
  )
}

export interface OwnAddressDependencies {
  readonly readiness: Readiness
  readonly log: Logger
  /** Called if the interface has another address instead, and the person who started the mirror has not named the old one. */
  readonly onChanged: (error: Error) => void
  readonly interfaces?: typeof networkInterfaces
  readonly clock?: Clock
}

/**
 * Watches the address at which other nodes reach this one, if this machine has it. The node's place in the swarm and every
 * capability depend on this address, so a mirror cannot change it while it runs. Without it nobody finds this node, so the
 * mirror is not ready until the address is back.
 *
 * @param isNamed whether a setting names the address, so that a restart would not change it
 */
export function watchOwnAddress(
  host: string,
  isNamed: boolean,
  { readiness, log, onChanged, interfaces = networkInterfaces, clock = systemClock }: OwnAddressDependencies,
) {
  const lost = readiness.wait()
  const own = ipv4Addresses(interfaces).find(({ address }) => address === host)
  // Behind NAT, and in a pod with a network of its own, the address belongs to another machine or network.
  if (own === undefined) return { close: () => undefined }
  const { name } = own
  let cancel = clock.after(INTERVAL, watch)

  function watch(): void {
    try {
      look()
    } catch (error) {
      // Such as when the system has no file descriptor left.
      log.error('the addresses of this machine cannot be read', { error })
    }
    cancel = clock.after(INTERVAL, watch)
  }

  function look(): void {
    const all = ipv4Addresses(interfaces)
    const isThere = all.some(({ address }) => address === host)
    const other = all.find((one) => one.name === name)?.address
    if (isThere) lost.over()
    else lost.for(`this machine no longer has the address ${host}, at which other nodes reach it`)
    if (!isThere && other !== undefined && !isNamed) {
      onChanged(new Error(`the address of ${name} has changed from ${host} to ${other}: this mirror must start again`))
    }
  }

  return { close: (): void => cancel() }
}
