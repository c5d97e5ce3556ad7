import process from 'node:process'
import { type Clock, systemClock } from '../../platform/clock.ts'
import type { Contacts } from '../members/contacts.ts'
import type { KnownNode } from '../members/network-map.ts'
import type { RecordSource } from './announcer-options.ts'
import type { Lanes } from './lanes.ts'
import { CpuBudget, SendWindow } from './pace.ts'
import type { Placement } from './placement.ts'

export interface CourierDependencies {
  readonly contacts: Contacts
  readonly records: Pick<RecordSource, 'relaysOf'>
  readonly lanes: Lanes
  /** Sends what is to be sent of a placement, up to so many requests; gives how many that makes. */
  readonly work: (placement: Placement, room: number) => number
  readonly clock?: Clock
  /** Milliseconds of CPU that this process has used. */
  readonly cpu?: () => number
}

export interface CourierOptions {
  /** Requests that may be under way at a time: at least, and at most. */
  readonly window?: readonly [least: number, most: number]
  /** Share of one core that announcing may take, between 0 and 1. Withdrawals do not count: nobody must wait for them. */
  readonly cpuShare?: number
}

/** With 4 from each, a hundred nodes that send at once can be answered by one; 256 nearly fill Linux's usual buffer of 208 KiB. */
const WINDOW = [4, 256] as const
/** Of what is sent; answers cost about as much again. Ten thousand keys take some 20 s so. */
export const CPU_SHARE = 0.3
/**
 * Requests above the window for what cannot wait, two keys: it may be full of requests to a node that has just died, for a
 * second or more. Where all are slow, everybody has to send less.
 */
const RESERVE = 16
/**
 * Requests sent without a pause, at most: a millisecond or two, and a pull that comes waits no longer; when content goes, or the
 * node does, there is less to wait for.
 */
const BATCH = 16
const WITHDRAWALS = 64

/** Takes what waits in the lanes to the nodes, no faster than they answer and than the budget allows. */
export class Courier {
  readonly #contacts: Contacts
  readonly #records: CourierDependencies['records']
  readonly #lanes: Lanes
  readonly #work: CourierDependencies['work']
  readonly #clock: Clock
  readonly #cpu: () => number
  readonly #window: SendWindow
  readonly #budget: CpuBudget
  #cancel: (() => void) | undefined
  #closed = false
  #stored = 0
  #removed = 0
  #lost = 0

  constructor(
    { contacts, records, lanes, work, clock = systemClock, cpu = usedCpu }: CourierDependencies,
    options: CourierOptions = {},
  ) {
    this.#contacts = contacts
    this.#records = records
    this.#lanes = lanes
    this.#work = work
    this.#clock = clock
    this.#cpu = cpu
    this.#window = new SendWindow(options.window ?? WINDOW)
    this.#budget = new CpuBudget(options.cpuShare ?? CPU_SHARE)
  }

  get counts(): { readonly stored: number; readonly removed: number; readonly lost: number } {
    return { stored: this.#stored, removed: this.#removed, lost: this.#lost }
  }

  /** Goes on as soon as window and budget allow. */
  go(): void {
    if (this.#closed || this.#cancel !== undefined || this.#room <= 0) return
    const { urgent } = this.#lanes
    if (urgent === undefined) return
    const pause = urgent === 'withdrawals' ? 0 : this.#budget.pause(this.#clock.now())
    this.#cancel = this.#clock.after(pause, () => {
      this.#cancel = undefined
      this.#run()
    })
  }

  /** @returns whether the node has done it. Never rejects. */
  async send(placement: Placement, node: KnownNode, kind: 'store' | 'remove'): Promise<boolean> {
    const sentAt = this.#clock.now()
    this.#window.sent()
    placement.sent(node, kind)
    const outcome =
      kind === 'remove'
        ? await this.#contacts.remove(node, placement.topic)
        : await this.#contacts.store(node, placement.topic, this.#records.relaysOf(placement.topic))
    placement.landed(node)
    if (outcome === 'silent') {
      this.#lost++
      this.#window.silent(sentAt, this.#clock.now())
    } else {
      this.#window.answered(sentAt, this.#clock.now())
    }
    if (outcome === 'done' && kind === 'store') {
      this.#stored++
      placement.stored(node, sentAt)
    } else if (outcome === 'done') {
      this.#removed++
      placement.dropped(node)
    }
    this.go()
    return outcome === 'done'
  }

  close(): void {
    this.#closed = true
    this.#cancel?.()
  }

  /** How many requests may be sent for what is most urgent. */
  get #room(): number {
    const { urgent } = this.#lanes
    const isUrgent = urgent === 'withdrawals' || urgent === 'express'
    return this.#window.room + (isUrgent && !this.#contacts.isSlow ? RESERVE : 0)
  }

  #run(): void {
    const start = this.#cpu()
    let sent = 0
    const most = this.#lanes.urgent === 'withdrawals' ? WITHDRAWALS : BATCH
    for (let room = this.#room; sent < most && room > 0; room = this.#room) {
      const placement = this.#lanes.take()
      if (placement === undefined) break
      // What turns out to be done already takes a little time as well.
      sent += this.#work(placement, room) || 1
    }
    this.#budget.spent(this.#cpu() - start, this.#clock.now())
    this.go()
  }
}

/** What else the process does meanwhile, such as collecting garbage, is counted as well; what others do on the same cores is not. */
function usedCpu(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1_000
}
