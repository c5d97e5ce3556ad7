import { readdirSync, readFileSync } from 'node:fs'

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
  const startedAt = performance.now()
  const before = used(pids)
  return () => {
    const seconds = (performance.now() - startedAt) / 1000
    const after = used(pids)
    return {
      seconds,
      percent: (after.cpu - before.cpu) / 1e7 / seconds,
      wakeUps: (after.switches - before.switches) / seconds,
    }
  }
}

/** Nanoseconds on a processor, and voluntary context switches, of all threads that live. */
function used(pids: readonly number[]): { cpu: number; switches: number } {
  let [cpu, switches] = [0, 0]
  for (const pid of pids) {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const path = `/proc/${pid}/task/${thread}`
      cpu += Number(readFileSync(`${path}/schedstat`, 'utf8').split(' ')[0])
      switches += Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(readFileSync(`${path}/status`, 'utf8'))?.[1])
    }
  }
  return { cpu, switches }
}

/** Memory of a process in MiB: all that is resident, and what of it is in no file. */
export function memoryOf(pid: number): { readonly resident: number; readonly anonymous: number } {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8')
  const mebibytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]) / 1024
  return { resident: mebibytes('VmRSS'), anonymous: mebibytes('RssAnon') }
}
