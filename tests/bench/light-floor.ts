/**
 * What a mirror cannot go below: this runtime with the packages of a mirror loaded, and a bare proxy. Prints its address, and passes on
 * what the server at the address that it is given answers; without one it answers 300 bytes itself.
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
