/**
 * Asks a peer door for the same blob many times over, as a member of the swarm, and takes the answers so slowly that they
 * do not end. Prints one line of JSON when every request has its head; runs until it is killed.
 */
import type { IncomingMessage } from 'node:http'
import { get } from 'node:https'
import { digestKey } from '../../../lib/oci/key.ts'
import { createCredentials } from '../../../lib/peers/credentials.ts'
import { createTlsIdentity } from '../../../lib/peers/tls.ts'
import type { OccupyOrder } from './occupy.ts'

/** A request takes what its socket holds, and then nothing for this time, in milliseconds: slow, but never silent. */
const PAUSE = 1_000

const { swarmKey, host, port, path, digest, requests }: OccupyOrder = JSON.parse(process.argv[2] ?? '')
const swarmKeys = [Buffer.from(swarmKey, 'hex')]
const credentials = createCredentials(swarmKeys)
const { ca, ...identity } = createTlsIdentity(swarmKeys)
const statuses: Record<number, number> = {}

async function ask(): Promise<void> {
  const { headers } = credentials.ticket(digestKey(digest), 'GET', `${host}:${port}`)
  const message = await new Promise<IncomingMessage>((resolve, reject) => {
    get({ ...identity, ca: [...ca], host, port, path, headers: { ...headers }, agent: false }, resolve).on(
      'error',
      reject,
    )
  })
  const status = message.statusCode ?? 0
  statuses[status] = (statuses[status] ?? 0) + 1
  if (status !== 200) return void message.resume()
  message.on('data', () => {
    message.pause()
    setTimeout(() => message.resume(), PAUSE)
  })
  // What the door does with a reader like this one is its own affair.
  message.on('error', () => message.destroy())
}

await Promise.all(Array.from({ length: requests }, ask))
process.stdout.write(`${JSON.stringify(statuses)}\n`)
