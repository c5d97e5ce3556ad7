import type { LaneName, Placement } from './placement.ts'

/**
 * What goes first: nobody must be sent to content that is gone, and new content is what others wait for: a little that has just
 * come more than all that a node has when it starts.
 */
const ORDER: readonly LaneName[] = ['withdrawals', 'express', 'fresh', 'repair', 'refresh']

/**
 * What waits to be announced, each once, in the lane of its most urgent reason. Within a lane the newest goes first: what
 * just arrived is asked for now, while the last of ten thousand others can wait a second more.
 */
export class Lanes {
  readonly #lanes: Record<LaneName, Placement[]> = {
    withdrawals: [],
    express: [],
    fresh: [],
    repair: [],
    refresh: [],
  }

  /** The most urgent lane in which somebody waits. */
  get urgent(): LaneName | undefined {
    return ORDER.find((name) => this.#top(name) !== undefined)
  }

  /** How many wait in a lane at most. */
  waiting(name: LaneName): number {
    return this.#lanes[name].length
  }

  /** Queues a placement, unless it waits for something more urgent already. */
  add(placement: Placement, name: LaneName): void {
    const { lane } = placement
    if (lane !== undefined && ORDER.indexOf(lane) <= ORDER.indexOf(name)) return
    this.move(placement, name)
  }

  /** Queues a placement there, wherever it waited before. */
  move(placement: Placement, name: LaneName): void {
    // Where it waited before, it is passed over.
    placement.lane = name
    this.#lanes[name].push(placement)
  }

  remove(placement: Placement): void {
    placement.lane = undefined
  }

  take(): Placement | undefined {
    const name = this.urgent
    if (name === undefined) return undefined
    const placement = this.#lanes[name].pop()
    if (placement !== undefined) this.remove(placement)
    return placement
  }

  #top(name: LaneName): Placement | undefined {
    const lane = this.#lanes[name]
    for (;;) {
      const last = lane.at(-1)
      if (last === undefined || last.lane === name) return last
      lane.pop()
    }
  }
}
