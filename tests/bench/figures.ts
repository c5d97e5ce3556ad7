import { readFileSync } from 'node:fs'

/** The value below which the given share (0 to 1) of the samples lies. */
export function quantile(samples: readonly number[], part: number): number {
  const sorted = [...samples].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? Number.NaN
}

export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5)
}

/** Ticks of the kernel's clock per second, as /proc reports CPU time (`getconf CLK_TCK`; 100 on every Linux of today). */
const TICKS = 100

/** User and system time that a process has used so far, in seconds. */
export function cpuSeconds(pid: number): number {
  // The command's name may hold anything, but ends with the last parenthesis. utime and stime are the 12th and 13th fields
  // after it.
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS
}

/** Resident memory of a process in MiB. */
export function residentMebibytes(pid: number): number {
  const kibibytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return Number(kibibytes) / 1024
}

/** Samples the resident memory of a process until it is stopped; returns the memory before and the growth, in MiB. */
export function watchMemory(pid: number): { stop(): { before: number; growth: number } } {
  const before = residentMebibytes(pid)
  let most = before
  const timer = setInterval(() => {
    most = Math.max(most, residentMebibytes(pid))
  }, 10)
  return {
    stop() {
      clearInterval(timer)
      most = Math.max(most, residentMebibytes(pid))
      return { before, growth: most - before }
    },
  }
}

/** Prints rows as a Markdown table, so that figures can be copied. */
export function printTable(head: readonly string[], rows: readonly (readonly string[])[]): void {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  console.log([line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n'))
}
