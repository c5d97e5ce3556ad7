import type { Logger } from '../../observe/log.ts'
import type { Key } from '../../oci/key.ts'
import { onAbort } from '../../platform/abort.ts'
import { addressOf } from '../../platform/address.ts'
import type { NetworkMap } from '../dht/network-map.ts'
import type { DhtRpc } from '../dht/rpc.ts'
import { ANSWER_TIMEOUT, type Answerer, MAX_MESSAGE, type Members } from '../members.ts'
import { compareDistance, type NodeAddress } from '../node.ts'
import type { Realm } from '../realm.ts'
import type { Peer } from '../router.ts'
import type { QuestionSeal } from './question-seal.ts'

export interface DhtMembersDependencies {
  readonly log: Logger
  readonly map: NetworkMap
  readonly realm: Pick<Realm, 'topicOf'>
  readonly rpc: Pick<DhtRpc, 'question'>
  readonly seal: QuestionSeal
}

/** The members of a swarm, as nodes of its DHT. */
export class DhtMembers implements Members {
  readonly #dependencies: DhtMembersDependencies
  #answerer: Answerer | undefined

  constructor(dependencies: DhtMembersDependencies) {
    this.#dependencies = dependencies
  }

  get size(): number {
    return this.#dependencies.map.others + 1
  }

  closest(key: Key, count: number): Peer[] {
    const { map, realm } = this.#dependencies
    const topic = realm.topicOf(key)
    const self = addressOf(map.self)
    // One more, since this node knows itself as long as it answers itself.
    const others = map.closest(topic, count + 1).filter((node) => addressOf(node) !== self)
    const closest = [...others, map.self].sort((a, b) => compareDistance(topic, a.id, b.id)).slice(0, count)
    return closest.map(({ host, port }) => ({ host, port }))
  }

  async ask(peer: Peer, question: Uint8Array, signal: AbortSignal): Promise<Uint8Array | undefined> {
    checkLength(question)
    const { rpc, seal } = this.#dependencies
    if (signal.aborted) return undefined
    const aborted = Promise.withResolvers<undefined>()
    using _ = onAbort(signal, () => aborted.resolve(undefined))
    const sealed = seal.seal(question, peer)
    const answer = await Promise.race([rpc.question(peer, sealed.bytes, ANSWER_TIMEOUT), aborted.promise])
    return answer && sealed.open(answer)
  }

  answer(answerer: Answerer): void {
    this.#answerer = answerer
  }

  /** The answer to a sealed question that came from that address; strangers get none. */
  answerTo(sealed: Uint8Array, { host, port }: NodeAddress): Uint8Array | undefined {
    const question = this.#dependencies.seal.open(sealed, { host, port })
    if (question === undefined || this.#answerer === undefined) return undefined
    try {
      const answer = this.#answerer(question.bytes, { host, port })
      if (answer === undefined) return undefined
      checkLength(answer)
      return question.seal(answer)
    } catch (error) {
      this.#dependencies.log.error('a question of a member could not be answered', { peer: { host, port }, error })
      return undefined
    }
  }
}

function checkLength({ length }: Uint8Array): void {
  if (length > MAX_MESSAGE) throw new RangeError(`expected at most ${MAX_MESSAGE} bytes, got ${length}`)
}
