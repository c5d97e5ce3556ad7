import { createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto'
import b4a from 'b4a'
import { compact, type NodeAddress } from '../node.ts'

const PURPOSE = 'swarmirror/question/1'
const NONCE_LENGTH = 16
const MAC_LENGTH = 16

/** A sealed question, and the way to open its answer. */
export interface SealedQuestion {
  readonly bytes: Uint8Array
  /** The answer; `undefined` unless the member that was asked gave it to this question. */
  open(sealed: Uint8Array): Uint8Array | undefined
}

/** A question of another member, and the way to seal the answer. */
export interface OpenedQuestion {
  readonly bytes: Uint8Array
  seal(answer: Uint8Array): Uint8Array
}

/**
 * Proves that questions and answers come from members, who know the swarm key. It hides nothing.
 *
 * A sealed question is 16 random bytes, 16 bytes of an HMAC, and the question. A sealed answer is 16 bytes of an HMAC and
 * the answer. Each HMAC is over the direction, the compact addresses of both sides, the random bytes and the message, so it
 * is worth nothing from or to another address, nor for another question.
 */
export class QuestionSeal {
  readonly #secrets: readonly [Uint8Array, ...Uint8Array[]]
  readonly #self: Uint8Array

  /**
   * @param swarmKeys questions are sealed with the first and opened with any; an answer is sealed as its question was
   * @param self address of this node
   */
  constructor([first, ...others]: readonly [Uint8Array, ...Uint8Array[]], self: NodeAddress) {
    const secretOf = (key: Uint8Array) => new Uint8Array(hkdfSync('sha256', key, '', PURPOSE, 32))
    this.#secrets = [secretOf(first), ...others.map(secretOf)]
    this.#self = compact(self)
  }

  seal(question: Uint8Array, to: NodeAddress): SealedQuestion {
    const [secret] = this.#secrets
    const nonce = randomBytes(NONCE_LENGTH)
    const context = b4a.concat([this.#self, compact(to), nonce])
    return {
      bytes: b4a.concat([nonce, macOf(secret, 'question', context, question), question]),
      open(sealed) {
        const answer = sealed.subarray(MAC_LENGTH)
        return isRight(sealed.subarray(0, MAC_LENGTH), macOf(secret, 'answer', context, answer)) ? answer : undefined
      },
    }
  }

  /** @param from where the datagram came from */
  open(sealed: Uint8Array, from: NodeAddress): OpenedQuestion | undefined {
    const nonce = sealed.subarray(0, NONCE_LENGTH)
    const mac = sealed.subarray(NONCE_LENGTH, NONCE_LENGTH + MAC_LENGTH)
    const question = sealed.subarray(NONCE_LENGTH + MAC_LENGTH)
    const context = b4a.concat([compact(from), this.#self, nonce])
    const secret = this.#secrets.find((known) => isRight(mac, macOf(known, 'question', context, question)))
    if (secret === undefined) return undefined
    return { bytes: question, seal: (answer) => b4a.concat([macOf(secret, 'answer', context, answer), answer]) }
  }
}

function macOf(secret: Uint8Array, direction: string, context: Uint8Array, message: Uint8Array): Uint8Array {
  const mac = createHmac('sha256', secret).update(`${direction}\n`).update(context).update(message)
  return mac.digest().subarray(0, MAC_LENGTH)
}

function isRight(given: Uint8Array, mac: Uint8Array): boolean {
  return given.length === mac.length && timingSafeEqual(given, mac)
}
