import { readdirSync, readFileSync } from 'node:fs'
import { cpuSeconds } from './figures.ts'

/** What processes used together in some time. */
export interface Use {
  readonly seconds: number
  /** Of one core. */
  readonly percent: number
  /** How many times per second a thread ran again after it had waited. */
  readonly wakeUps: number
}

/** Measures what processes use from now on, until it is stopped. */
export function watchUse(pids: readonly number[]): () => Use {
  const cpu = () => pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0)
  const startedAt = performance.now()
  const [cpuBefore, before] = [cpu(), switchesOf(pids)]
  return () => {
    const seconds = (performance.now() - startedAt) / 1000
    const used = cpu() - cpuBefore
    let switches = 0
    for (const [thread, count] of switchesOf(pids)) switches += count - (before.get(thread) ?? 0)
    return { seconds, percent: (100 * used) / seconds, wakeUps: switches / seconds }
  }
}

/** The voluntary context switches of each living thread. Those of threads that end meanwhile are lost. */
function switchesOf(pids: readonly number[]): Map<string, number> {
  const found = new Map<string, number>()
  for (const pid of pids) {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const status = readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8')
      found.set(thread, Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(status)?.[1]))
    }
  }
  return found
}

/** Memory of a process in MiB: all resident memory, and the anonymous part. */
export function memoryOf(pid: number): { readonly resident: number; readonly anonymous: number } {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8')
  const mebibytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]) / 1024
  return { resident: mebibytes('VmRSS'), anonymous: mebibytes('RssAnon') }
}
