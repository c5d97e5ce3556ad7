import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { test } from 'node:test'
import { lookAtPorts, PORTS } from '../../../lib/commands/check.ts'
import type { doorsOf } from '../../../lib/settings/settings.ts'

async function portsOf(ports: ReturnType<typeof doorsOf>, runsHere: () => Promise<boolean>) {
  const [finding] = await PORTS.judge(await lookAtPorts(ports, runsHere))
  return finding ?? assert.fail()
}

const nobody = async () => false
const somebody = async () => true

test('ports are found free, taken, or taken by the mirror itself, for TCP and for UDP', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const socket = createSocket('udp4')
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const tcp = { flag: 'listen' as const, host: '127.0.0.1', port }
  const udp = { flag: 'peer-listen' as const, host: '127.0.0.1', port: socket.address().port }
  try {
    assert.equal((await portsOf([{ ...tcp, port: 0 }], nobody)).severity, 'ok')
    const taken = await portsOf([tcp, udp], nobody)
    assert.equal(taken.severity, 'error')
    // Another program may use the number of the UDP port for TCP.
    const seen = taken.seen.split('; ').filter((one) => !/^--peer-listen .*TCP/.test(one))
    assert.deepEqual(seen, [
      `--listen 127.0.0.1:${port} (TCP): the address is in use`,
      `--peer-listen 127.0.0.1:${udp.port} (UDP): the address is in use`,
    ])
    const elsewhere = await portsOf([{ ...tcp, host: '192.0.2.1' }], nobody)
    assert.equal(elsewhere.seen, `--listen 192.0.2.1:${port} (TCP): this machine has no such address`)
    const ours = await portsOf([tcp, udp], somebody)
    assert.deepEqual([ours.severity, ours.seen], ['ok', 'a mirror runs here, and answers at its admin door'])
  } finally {
    socket.close()
    server.close()
    await once(server, 'close')
  }
})
