import type { Logger } from '../../observe/log.ts'
import type { Key } from '../../oci/key.ts'
import { orAborted } from '../../platform/abort.ts'
import { addressOf } from '../../platform/address.ts'
import type { NetworkMap } from '../dht/network-map.ts'
import type { DhtRpc } from '../dht/rpc.ts'
import { ANSWER_TIMEOUT, type Answerer, MAX_MESSAGE } from '../members.ts'
import { compareDistance, type NodeAddress } from '../node.ts'
import type { Peer } from '../router.ts'

export interface DhtMembersDependencies {
  readonly log: Logger
  readonly map: NetworkMap
  readonly topicOf: (key: Key) => Uint8Array
  readonly rpc: Pick<DhtRpc, 'question'>
}

/** The members of a swarm, which are the nodes of its DHT. */
export function createDhtMembers({ log, map, topicOf, rpc }: DhtMembersDependencies) {
  let answers: Answerer | undefined

  return {
    get size(): number {
      return map.others + 1
    },

    closest(key: Key, count: number): Peer[] {
      const topic = topicOf(key)
      const self = addressOf(map.self)
      // One more, because the map may contain this node itself, which answers itself.
      const others = map.closest(topic, count + 1).filter((node) => addressOf(node) !== self)
      const closest = [...others, map.self].sort((a, b) => compareDistance(topic, a.id, b.id)).slice(0, count)
      return closest.map(({ host, port }) => ({ host, port }))
    },

    async ask(peer: Peer, question: Uint8Array, signal: AbortSignal): Promise<Uint8Array | undefined> {
      checkLength(question)
      if (signal.aborted) return undefined
      return await orAborted(rpc.question(peer, question, ANSWER_TIMEOUT), signal)
    },

    answer(answerer: Answerer): void {
      answers = answerer
    },

    /** The answer to a question from that address. */
    answerTo(question: Uint8Array, { host, port }: NodeAddress): Uint8Array | undefined {
      try {
        const answer = answers?.(question, { host, port })
        if (answer !== undefined) checkLength(answer)
        return answer
      } catch (error) {
        log.error('a question from a member could not be answered', { peer: { host, port }, error })
        return undefined
      }
    },
  }
}

function checkLength({ length }: Uint8Array): void {
  if (length > MAX_MESSAGE) throw new RangeError(`expected at most ${MAX_MESSAGE} bytes, got ${length}`)
}
