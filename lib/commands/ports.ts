import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { rule } from '../containerd/rule.ts'

/** How often an address is tried before it counts as taken, and the wait between tries in milliseconds. */
const ATTEMPTS = 3
const PAUSE = 50

/** An address that the mirror will open a door on. */
export interface PortToCheck {
  readonly flag: string
  readonly host: string
  readonly port: number
  /** Whether UDP is needed as well as TCP. */
  readonly udp?: boolean
}

/** Which addresses of the mirror cannot be used, and whether a mirror on this node is what uses them. */
export interface PortUse {
  /** In words, with the flag of each. */
  readonly taken: readonly string[]
  readonly runsHere: boolean
}

/**
 * Tries to use the addresses of the mirror's doors.
 *
 * @param runsHere whether a mirror answers at its admin door. It is asked last, since a mirror that is starting opens that
 * door last.
 */
export async function lookAtPorts(ports: readonly PortToCheck[], runsHere: () => Promise<boolean>): Promise<PortUse> {
  const taken: string[] = []
  for (const { flag, host, port, udp = false } of ports) {
    for (const protocol of udp ? (['TCP', 'UDP'] as const) : (['TCP'] as const)) {
      const problem = await patiently(() => tryToBind(host, port, protocol))
      if (problem !== undefined) taken.push(`--${flag} ${host}:${port} ${problem}`)
    }
  }
  return { taken, runsHere: taken.length > 0 && (await runsHere()) }
}

/** Tries again: another check that looks at the same moment holds the address for an instant. */
async function patiently(bind: () => Promise<string | undefined>): Promise<string | undefined> {
  for (let attempt = 1; ; attempt++) {
    const problem = await bind()
    if (problem === undefined || attempt === ATTEMPTS) return problem
    await delay(PAUSE)
  }
}

const WORDS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'is in use',
  EADDRNOTAVAIL: 'is no address of this machine',
  EACCES: 'is not for this user',
}

/** Why the address cannot be used, in words; `undefined` if it can. */
function tryToBind(host: string, port: number, protocol: 'TCP' | 'UDP'): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = protocol === 'TCP' ? createServer() : createSocket('udp4')
    socket.once('error', (error: NodeJS.ErrnoException) => {
      socket.close()
      const code = error.code ?? error.message
      resolve(`${WORDS[code] ?? 'cannot be opened'} (${protocol}: ${code})`)
    })
    const close = () => socket.close(() => resolve(undefined))
    if ('listen' in socket) socket.listen({ host, port, exclusive: true }, close)
    else socket.bind({ address: host, port, exclusive: true }, close)
  })
}

/** For a process that is not the mirror: a mirror would find its own doors in use. */
export const PORTS = rule({
  id: 'ports',
  reads: (use: PortUse) => use,
  judges({ taken, runsHere }) {
    if (taken.length === 0) return { severity: 'ok', seen: 'the addresses of all doors are free' }
    if (runsHere) return { severity: 'ok', seen: 'a mirror runs here, and answers at its admin door' }
    return { severity: 'error', seen: taken.join('; ') }
  },
  expected: 'the addresses of the doors are free, or this node’s own mirror uses them',
  why: 'the mirror does not start without its doors',
  remedy: () => ({ text: 'stop whatever uses the address (`ss -tulpn` names it), or give the door another one' }),
})
