/**
 * The floor for a mirror: this runtime with the packages of a mirror loaded, and a bare proxy. It prints its address, and
 * passes on the answers of the server at the given address. Without an address it answers 300 bytes itself.
 */
import { Agent, createServer, get } from 'node:http'
import type { AddressInfo } from 'node:net'
import process from 'node:process'
import 'b4a'
import 'hono'
import 'hyperdht'
import 'hyperswarm'
import 'valibot'

const BODY = Buffer.alloc(300)
const [upstream] = process.argv.slice(2)
const agent = new Agent({ keepAlive: true })

const server = createServer((request, response) => {
  if (upstream === undefined || upstream === '') {
    response.writeHead(200, { 'content-length': BODY.length }).end(BODY)
    return
  }
  get(`${upstream}${request.url}`, { agent }, (answer) => {
    response.writeHead(answer.statusCode ?? 502, { 'content-length': answer.headers['content-length'] ?? 0 })
    answer.pipe(response)
  }).on('error', () => response.writeHead(502).end())
})
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}`))
