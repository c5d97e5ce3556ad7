import { readdirSync, readFileSync } from 'node:fs'
import { cpuSeconds } from './figures.ts'

/** What processes used in a stretch of time, together. */
export interface Use {
  readonly seconds: number
  /** Of one core. */
  readonly percent: number
  /** How often a thread began to run again after it had waited for something, each second. */
  readonly wakeUps: number
}

/** Looks at what processes use from now on until it is stopped. */
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

/** Voluntary context switches of each thread that lives. Those of threads that end meanwhile are lost. */
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

/** Memory of a process in MiB: all that is resident, and what of it is in no file. */
export function memoryOf(pid: number): { readonly resident: number; readonly anonymous: number } {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8')
  const mebibytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]) / 1024
  return { resident: mebibytes('VmRSS'), anonymous: mebibytes('RssAnon') }
}
