/**
 * What a hop costs at least on this runtime: passes connections on to the server at the address that it is given, and hashes what
 * that answers. Prints its address.
 */
import { createHash } from 'node:crypto'
import { type AddressInfo, connect, createServer } from 'node:net'
import process from 'node:process'

const [port = ''] = process.argv.slice(2)

const server = createServer((client) => {
  const hash = createHash('sha256')
  const upstream = connect(Number(port), '127.0.0.1')
  client.on('data', (request) => upstream.write(request))
  upstream.on('data', (bytes) => {
    hash.update(bytes)
    if (!client.write(bytes)) upstream.pause()
  })
  client.on('drain', () => upstream.resume())
  upstream.on('close', () => client.end())
  client.on('close', () => upstream.destroy())
  for (const socket of [client, upstream]) socket.on('error', () => socket.destroy())
})
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}`))
