import process from 'node:process'

/** Tells, on standard error, which step of a long build begins, and after how many seconds. */
export function createProgress(): (step: string) => void {
  const start = performance.now()
  return (step) => {
    const seconds = ((performance.now() - start) / 1000).toFixed(0)
    process.stderr.write(`${`${seconds} s`.padStart(6)}  ${step}\n`)
  }
}
