import type { TracePart, TraceStep } from '../trace.ts'
import type { PeerTrace } from '../trace-ask.ts'
import { byId, type Child, make, table } from './dom.ts'
import { formatBytes, formatCount, formatTime } from './format.ts'
import { partName, peerName } from './pulls.ts'
import type { Names } from './swarm.ts'

/** Runs a trace and shows its steps as they come, with the names of the nodes that are known by then. */
export async function runTrace(reference: string, names: Names): Promise<void> {
  const steps: TraceStep[] = []
  const target = byId('steps')
  target.replaceChildren(make('p', 'muted', 'Asking…'))
  const response = await fetch('/api/trace', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ reference }),
  })
  if (!response.ok || response.body === null) {
    target.replaceChildren(make('p', 'wrong', (await response.text()).trim()))
    return
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) break
    const lines = (rest + value).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) steps.push(JSON.parse(line))
    target.replaceChildren(...traceShown(steps, names).filter((child) => child !== undefined && child !== false))
  }
}

export function traceShown(steps: readonly TraceStep[], names: Names): Child[] {
  const parts = steps.flatMap((step) => (step.step === 'part' ? [step.part] : []))
  const name = steps.find((step) => step.step === 'name')
  const end = steps.find((step) => step.step === 'end')
  const resolve = steps.find((step) => step.step === 'resolve')
  const lookupTimeout = name?.lookupTimeout ?? 0
  const shown: Child[] = []
  if (end !== undefined) {
    const conclusion = concluded(parts, lookupTimeout)
    if (end.problem !== undefined) shown.push(make('p', 'careful', end.problem))
    if (conclusion !== '') shown.push(make('p', '', `${conclusion} The trace took ${formatTime(end.ms)}.`))
  }
  if (resolve !== undefined) {
    const ways = {
      upstream:
        'Upstream resolves it: a pull asks there what the tag means, and with the secret of its pod whether it may pull.',
      swarm: 'The swarm resolves it, as it last knew, and nobody checks secrets.',
    }
    shown.push(make('p', 'muted', ways[resolve.by]))
  }
  const columns = {
    ...{ part: 'mono', size: 'number wide', here: '', lookup: 'number', found: 'number wide' },
    'peers asked, and their first byte': 'mono answers',
  }
  const rows = parts.map((part) => [
    partName(part.key, part.role),
    part.size === undefined ? '' : formatBytes(part.size),
    localShown(part),
    lookupShown(part, lookupTimeout),
    String(part.found),
    make(
      'div',
      'name',
      ...part.answers.map((answer) => answerShown(answer, names)),
      part.answers.length === 0 && make('span', 'muted', 'nobody'),
    ),
  ])
  if (rows.length > 0) shown.push(table('Trace', columns, rows))
  if (end === undefined) shown.push(make('p', 'muted', 'Asking…'))
  return shown
}

/** Whether this node has the part; a question mark if its store does not answer. */
export function localShown({ isLocal, localMs, localProblem }: TracePart): Child {
  if (localProblem !== undefined) return make('span', 'careful', '?')
  return isLocal ? `yes, ${formatTime(localMs)}` : make('span', 'muted', 'no')
}

/** The time until the first peer was found, for which a pull waits; or until the lookup ended without one. */
export function lookupShown({ firstPeerMs, lookupMs }: TracePart, lookupTimeout: number): Child {
  const ms = firstPeerMs ?? lookupMs
  const isLate = firstPeerMs !== undefined && firstPeerMs > lookupTimeout
  return make('span', isLate ? 'careful' : '', formatTime(ms))
}

export function answerShown(answer: PeerTrace, names: Names): HTMLElement {
  const { address, outcome, headMs, firstByteMs, problem, isAside } = answer
  const text = outcome === 'content' ? formatTime(firstByteMs ?? headMs) : `${outcome}, ${formatTime(headMs)}`
  const aside = isAside && make('span', 'careful', 'put aside')
  const line = make(
    'div',
    '',
    peerName(address, names),
    aside,
    make('span', outcome === 'content' ? 'number' : 'number careful', text),
  )
  if (problem !== undefined) line.title = problem
  return line
}

/** Where a pull would get its parts, in words. */
export function concluded(parts: readonly TracePart[], lookupTimeout: number): string {
  if (parts.length === 0) return ''
  const local = parts.filter(({ isLocal }) => isLocal)
  const others = parts.filter(({ isLocal }) => !isLocal)
  const given = others.filter(({ answers }) => answers.some(({ outcome }) => outcome === 'content'))
  const late = given.filter(({ firstPeerMs = 0 }) => firstPeerMs > lookupTimeout)
  const sentences = [
    `Of ${formatCount(parts.length, 'part', 'parts')}, ${local.length} held here, ${given.length} to be had from peers, ${others.length - given.length} only upstream.`,
  ]
  if (late.length > 0) {
    sentences.push(
      `For ${late.length} of them the first peer was found later than the ${formatTime(lookupTimeout)} that a pull waits (--lookup-timeout).`,
    )
  }
  const times = given.map(({ answers, firstPeerMs = 0 }) => {
    const best = Math.min(
      ...answers.filter(({ outcome }) => outcome === 'content').map(({ headMs, firstByteMs }) => firstByteMs ?? headMs),
    )
    return firstPeerMs + best
  })
  if (times.length > 0) sentences.push(`The slowest first byte would come after ${formatTime(Math.max(...times))}.`)
  const problem = parts.find(({ localProblem }) => localProblem !== undefined)?.localProblem
  if (problem !== undefined) sentences.push(`This node itself could not be asked: ${problem}.`)
  return sentences.join(' ')
}
