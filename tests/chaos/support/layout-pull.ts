import { once } from 'node:events'
import { Agent, get, type IncomingMessage } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { Content, Image } from '../../../lib/oci/make-image.ts'
import { isManifestMediaType } from '../../../lib/oci/media-type.ts'
import type { LayoutNode } from './layout-node.ts'

/** How long a door may be silent before the head of an answer or in its middle, in milliseconds. */
export const SILENCE_BOUND = 15_000
/** How often containerd reopens a body without progress before it gives up. */
const REOPENINGS = 3
/** How many blobs containerd gets at the same time. */
const PARALLEL = 3

export interface PullImage {
  readonly registry: string
  readonly repository: string
  readonly tag: string
  readonly image: Image
}

/** Where bytes came from: this node's store, its peers, or the test's own copy in place of an upstream. */
export type Sources = Record<'local' | 'peer' | 'upstream', number>

/** The test took the node away during the pull: its end says nothing about the mirrors. */
export class NodeLost extends Error {
  override readonly name = 'NodeLost'
}

class Silence extends Error {
  override readonly name = 'Silence'
}

export interface PullPace {
  /** Milliseconds to wait after a chunk. */
  readonly pause: () => number
}

/**
 * Pulls an image through a node's registry door as containerd does: reopens a body that ended early at its offset, and goes
 * upstream when the door does not have the content. Compares every byte with the true one as it comes.
 *
 * @throws {NodeLost} when the node went down meanwhile
 * @throws {Error} for a wrong byte, a wrong head, a silence beyond {@link SILENCE_BOUND}, a body that ends with RST
 */
export async function pullThrough(node: LayoutNode, pull: PullImage, pace: PullPace): Promise<Sources> {
  const { generation } = node
  const agent = new Agent({ keepAlive: true })
  const sources: Sources = { local: 0, peer: 0, upstream: 0 }
  try {
    const contents = [...pull.image.contents]
    // Like containerd, the first request names the tag; the rest name digests.
    const one = (content: Content) => new Download(node, agent, pull, content, pace).run(sources)
    await one(contents.shift() as Content)
    const worker = async () => {
      for (let content = contents.shift(); content !== undefined; content = contents.shift()) await one(content)
    }
    const results = await Promise.allSettled(Array.from({ length: PARALLEL }, worker))
    for (const result of results) if (result.status === 'rejected') throw result.reason
    return sources
  } catch (error) {
    if (node.generation !== generation || node.state === 'down' || node.state === 'stopping') {
      throw new NodeLost(`${node.name} went away`, { cause: error })
    }
    throw error
  } finally {
    agent.destroy()
  }
}

/** One piece of content during its download. */
class Download {
  readonly #node: LayoutNode
  readonly #agent: Agent
  readonly #content: Content
  readonly #path: string
  readonly #pace: PullPace
  #received = 0
  /** What broke the connection of the present request. A FIN before the end of a body is none, for node:http. */
  #failure: Error | undefined

  constructor(node: LayoutNode, agent: Agent, pull: PullImage, content: Content, pace: PullPace) {
    this.#node = node
    this.#agent = agent
    this.#content = content
    this.#pace = pace
    const { mediaType, digest } = content.descriptor
    const name = digest === pull.image.target.digest ? pull.tag : digest
    const kind = isManifestMediaType(mediaType) ? 'manifests' : 'blobs'
    this.#path = `/v2/${pull.repository}/${kind}/${name}?ns=${pull.registry}`
  }

  async run(sources: Sources): Promise<void> {
    const { bytes } = this.#content
    let stuck = 0
    while (this.#received < bytes.length) {
      const before = this.#received
      const message = await this.#ask()
      const source = message?.headers['x-swarmirror-source'] === 'local' ? 'local' : 'peer'
      if (message === undefined) {
        // Upstream has it, and what came before is right.
        sources.upstream += bytes.length - this.#received
        return
      }
      await this.#read(message)
      sources[source] += this.#received - before
      stuck = this.#received > before ? 0 : stuck + 1
      if (stuck > REOPENINGS) throw this.#problem('reopened without progress, more often than containerd does')
    }
  }

  /** The answer with the rest of the content; nothing when the door has it not. */
  async #ask(): Promise<IncomingMessage | undefined> {
    const headers = this.#received === 0 ? {} : { range: `bytes=${this.#received}-` }
    this.#failure = undefined
    const request = get({ ...this.#node.door, path: this.#path, headers, agent: this.#agent })
    request.on('error', (error) => {
      this.#failure = error
    })
    const message = await this.#notSilent(
      'before the head',
      request,
      once(request, 'response').then(([message]) => message as IncomingMessage),
    )
    const { statusCode = 0 } = message
    if (statusCode === 404 || statusCode >= 500) {
      message.resume()
      return undefined
    }
    if (statusCode !== (this.#received === 0 ? 200 : 206)) throw this.#problem(`status ${statusCode}`)
    const length = Number(message.headers['content-length'])
    if (length !== this.#content.bytes.length - this.#received) throw this.#problem(`content length ${length}`)
    return message
  }

  /** Reads to the end of the body, be it early or not. */
  async #read(message: IncomingMessage): Promise<void> {
    const chunks = message[Symbol.asyncIterator]() as AsyncIterator<Buffer>
    for (;;) {
      let chunk: Buffer | undefined
      try {
        const { done, value } = await this.#notSilent('in the body', message, chunks.next())
        if (done) return
        chunk = value
      } catch (error) {
        if (this.#failure === undefined && !(error instanceof Silence)) return
        throw this.#problem('the body broke', error)
      }
      const right = this.#content.bytes.subarray(this.#received, this.#received + chunk.length)
      if (Buffer.compare(chunk, right) !== 0) throw this.#problem('a wrong byte')
      this.#received += chunk.length
      await delay(this.#pace.pause())
    }
  }

  async #notSilent<T>(where: string, stream: { destroy(error: Error): unknown }, next: Promise<T>): Promise<T> {
    const timer = setTimeout(
      () => stream.destroy(new Silence(`silent for ${SILENCE_BOUND} ms ${where}`)),
      SILENCE_BOUND,
    )
    try {
      return await next
    } finally {
      clearTimeout(timer)
    }
  }

  #problem(what: string, cause?: unknown): Error {
    return new Error(`${this.#node.name}, ${this.#path} at ${this.#received}: ${what}`, { cause })
  }
}
