import { readFileSync } from 'node:fs'

/** How the processors of this machine spent a time, each from 0 to 1 of all of them. */
export interface ProcessorUse {
  /** Working, for whoever, and taken away by a hypervisor, which is work that could not be done either. */
  readonly busy: number
  /** With nothing to do but wait for the disk. */
  readonly waiting: number
}

/** Fields of the first line of /proc/stat, in ticks since the machine started. */
function ticks() {
  const [, ...fields] = readFileSync('/proc/stat', 'utf8').split('\n', 1).join('').split(/\s+/)
  const [user = 0, nice = 0, system = 0, idle = 0, waiting = 0, irq = 0, softirq = 0, steal = 0] = fields.map(Number)
  return { busy: user + nice + system + irq + softirq + steal, idle, waiting }
}

/** Looks from now on until it is stopped. */
export function watchProcessors(): () => ProcessorUse {
  const before = ticks()
  return () => {
    const after = ticks()
    const [busy, idle, waiting] = (['busy', 'idle', 'waiting'] as const).map(
      (field) => after[field] - before[field],
    ) as [number, number, number]
    const all = Math.max(busy + idle + waiting, 1)
    return { busy: busy / all, waiting: waiting / all }
  }
}
