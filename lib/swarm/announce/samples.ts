import type { Clock } from '../../platform/clock.ts'
import type { KnownNode } from '../members/network-map.ts'
import type { Sample } from '../members/scout.ts'
import type { RecordSource } from './announcer-options.ts'
import type { Sweep } from './sweep.ts'

export interface SamplesDependencies {
  readonly sweep: Sweep
  readonly records: Pick<RecordSource, 'isOwn'>
  readonly clock: Clock
  readonly random: () => number
  /** Told of a node that has not what it was sent. */
  readonly forgot: (node: KnownNode) => void
}

/** A node answers with no more records than that, chosen by chance. */
const MOST_ANSWERED = 20
const CANDIDATES = 32

/**
 * Finds out whether nodes still have what they were sent: one that was started again, faster than its silence is noticed, has
 * not; nor has one that has no room.
 */
export class Samples {
  readonly #dependencies: SamplesDependencies
  readonly #pause: number
  readonly #forgotAt = new WeakMap<KnownNode, number>()

  /** @param pause milliseconds from one time that a node has forgotten to the next that counts: it may go on forgetting */
  constructor(dependencies: SamplesDependencies, pause: number) {
    this.#dependencies = dependencies
    this.#pause = pause
  }

  /** Something that the node should have; nothing if that is not known. */
  of(node: KnownNode): Sample | undefined {
    const { sweep, records, clock, random, forgot } = this.#dependencies
    const there = sweep.near(node.prefix, CANDIDATES).filter((one) => one.wanted && one.isAt(node))
    // Another one each time: some may have been sent again by chance.
    const placement = there[Math.floor(random() * there.length)]
    if (placement === undefined) return undefined
    return {
      topic: placement.topic,
      answered: (answer) => {
        if (answer.length >= MOST_ANSWERED || answer.some((record) => records.isOwn(record))) return
        const now = clock.now()
        const before = this.#forgotAt.get(node) ?? Number.NEGATIVE_INFINITY
        // Meanwhile it may have been taken back.
        if (!placement.wanted || !placement.isAt(node) || now - before < this.#pause) return
        this.#forgotAt.set(node, now)
        forgot(node)
      },
    }
  }
}
