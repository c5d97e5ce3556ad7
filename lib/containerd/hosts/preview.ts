/** Lines shown before and after what changes. */
const CONTEXT = 3

/** The difference between two texts of a file for a person, in the manner of `diff -u`; one stretch that covers it all. */
export function preview(path: string, before: string | undefined, after: string | undefined): string {
  if (before === after) return ''
  const [old, fresh] = [linesOf(before), linesOf(after)]
  const shared = Math.min(old.length, fresh.length)
  let head = 0
  while (head < shared && old[head] === fresh[head]) head++
  let tail = 0
  while (tail < shared - head && old[old.length - 1 - tail] === fresh[fresh.length - 1 - tail]) tail++
  const start = Math.max(0, head - CONTEXT)
  const kept = Math.min(tail, CONTEXT)
  const lines = [
    `--- ${before === undefined ? '/dev/null' : path}`,
    `+++ ${after === undefined ? '/dev/null' : path}`,
    `@@ from line ${start + 1} @@`,
    ...old.slice(start, head).map((line) => ` ${line}`),
    ...old.slice(head, old.length - tail).map((line) => `-${line}`),
    ...fresh.slice(head, fresh.length - tail).map((line) => `+${line}`),
    ...old.slice(old.length - tail, old.length - tail + kept).map((line) => ` ${line}`),
  ]
  return `${lines.join('\n')}\n`
}

function linesOf(text: string | undefined): string[] {
  if (text === undefined || text === '') return []
  const lines = text.split(/\r?\n/)
  return text.endsWith('\n') ? lines.slice(0, -1) : lines
}
