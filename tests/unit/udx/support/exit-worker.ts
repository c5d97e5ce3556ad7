// Opens sockets, streams and a watch on real interfaces, uses them and closes them (`streams`), leaves a socket open (`open`), or has
// a listener throw (`throw`), and says that it is done.
import { once } from 'node:events'
import { UDX } from '../../../../lib/udx/index.ts'

const HOST = '127.0.0.1'
const udx = new UDX()
const watcher = udx.watchNetworkInterfaces()
const [a, b] = [udx.createSocket(), udx.createSocket()]
a.bind(0, HOST)
b.bind(0, HOST)
const [from, to] = [a.address()?.port ?? 0, b.address()?.port ?? 0]

/** Both ends end, so that both linger. */
async function gracefully(): Promise<void> {
  const [one, two] = [udx.createStream(1), udx.createStream(2)]
  one.connect(a, 2, to, HOST)
  two.connect(b, 1, from, HOST)
  one.resume()
  two.resume()
  const closed = Promise.all([once(one, 'close'), once(two, 'close')])
  one.end(Buffer.alloc(100_000))
  two.end(Buffer.alloc(100_000))
  await closed
}

/** One end is destroyed with much under way; another has nobody to talk to. */
async function abruptly(): Promise<void> {
  const [one, two, lonely] = [udx.createStream(3), udx.createStream(4), udx.createStream(5)]
  one.connect(a, 4, to, HOST)
  two.connect(b, 3, from, HOST)
  lonely.connect(a, 99, to, HOST)
  for (const stream of [one, two, lonely]) stream.on('error', () => undefined)
  two.resume()
  one.write(Buffer.alloc(1_000_000))
  lonely.write(Buffer.alloc(1_000))
  await once(two, 'data')
  const closed = Promise.all(
    [one, two, lonely].map((stream) => new Promise((resolve) => stream.on('close', () => resolve(undefined)))),
  )
  one.destroy()
  lonely.destroy()
  await closed
}

if (process.argv[2] === 'streams') {
  await gracefully()
  await abruptly()
  await Promise.all([a.close(), b.close()])
}
if (process.argv[2] === 'throw') {
  const thrown = once(process, 'uncaughtException')
  a.on('message', () => {
    throw new Error('by a listener')
  })
  b.trySend(Buffer.from('anything'), from, HOST)
  const [error] = (await thrown) as [Error]
  if (error.message !== 'by a listener') throw error
  await Promise.all([a.close(), b.close()])
}
await watcher.destroy()
console.log('done')
