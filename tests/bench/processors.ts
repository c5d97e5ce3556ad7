import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { cpuSeconds } from './figures.ts'

/** How this machine's processors spent some time, each value from 0 to 1 of all processors. */
export interface ProcessorUse {
  /** Working for any process, or taken away by a hypervisor. */
  readonly busy: number
  /** Idle, but waiting for the disk. */
  readonly waiting: number
  /** Working for the processes that were named. */
  readonly own: number
}

/** Fields of the first line of /proc/stat, in ticks since the machine started. */
function ticks() {
  const [, ...fields] = readFileSync('/proc/stat', 'utf8').split('\n', 1).join('').split(/\s+/)
  const [user = 0, nice = 0, system = 0, idle = 0, waiting = 0, irq = 0, softirq = 0, steal = 0] = fields.map(Number)
  return { busy: user + nice + system + irq + softirq + steal, idle, waiting }
}

/**
 * Measures from now on, until it is stopped.
 *
 * @param pids processes whose share is shown separately; the rest of the busy time belongs to others or the kernel
 */
export function watchProcessors(pids: readonly number[] = []): () => ProcessorUse {
  const used = () => pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0)
  const startedAt = performance.now()
  const before = ticks()
  const usedBefore = used()
  return () => {
    const after = ticks()
    const seconds = (performance.now() - startedAt) / 1000
    const [busy, idle, waiting] = [after.busy - before.busy, after.idle - before.idle, after.waiting - before.waiting]
    const all = Math.max(busy + idle + waiting, 1)
    const own = (used() - usedBefore) / (seconds * availableParallelism())
    return { busy: busy / all, waiting: waiting / all, own }
  }
}
