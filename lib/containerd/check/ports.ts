import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { Finding } from '../finding.ts'

/** How often an address is tried before it counts as taken, and the wait in between in milliseconds. */
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

/**
 * Whether the mirror's addresses can be used. For who is not the mirror: it would find its own doors in use.
 *
 * @param runsHere whether a mirror answers at its admin door, which then is who uses them; asked only if somebody does, and
 * afterwards, since a mirror that is just starting opens that door last
 */
export async function checkPorts(ports: readonly PortToCheck[], runsHere: () => Promise<boolean>): Promise<Finding> {
  const rule = {
    id: 'ports',
    expected: 'the addresses of the doors free, or used by this node’s own mirror',
    why: 'the mirror does not start without its doors',
  }
  const problems: string[] = []
  for (const { flag, host, port, udp = false } of ports) {
    const tried = [
      await patiently(() => bindTcp(host, port)),
      udp ? await patiently(() => bindUdp(host, port)) : undefined,
    ]
    for (const problem of tried) if (problem !== undefined) problems.push(`--${flag} ${host}:${port} ${problem}`)
  }
  if (problems.length === 0) return { ...rule, severity: 'ok', seen: 'the addresses of all doors are free' }
  if (await runsHere()) return { ...rule, severity: 'ok', seen: 'a mirror runs here, and answers at its admin door' }
  const text = 'end what uses the address (`ss -tulpn` names it), or give the door another one'
  return { ...rule, severity: 'error', seen: problems.join('; '), remedy: { text } }
}

/** Another check that looks at the same moment has the address for a moment, too. */
async function patiently(bind: () => Promise<string | undefined>): Promise<string | undefined> {
  let problem: string | undefined
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    problem = await bind()
    if (problem === undefined) return undefined
    if (attempt < ATTEMPTS) await delay(PAUSE)
  }
  return problem
}

/** Why the address cannot be used, in words; `undefined` if it can. */
function bindTcp(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', (error) => resolve(inWords(error, 'TCP')))
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)))
  })
}

function bindUdp(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4')
    socket.once('error', (error) => {
      socket.close()
      resolve(inWords(error, 'UDP'))
    })
    socket.bind({ address: host, port, exclusive: true }, () => socket.close(() => resolve(undefined)))
  })
}

const WORDS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'is in use',
  EADDRNOTAVAIL: 'is no address of this machine',
  EACCES: 'is not for this user',
}

function inWords(error: Error, protocol: string): string {
  const code = (error as NodeJS.ErrnoException).code ?? error.message
  const words = WORDS[code]
  return words === undefined ? `cannot be opened (${protocol}: ${code})` : `${words} (${protocol}: ${code})`
}
