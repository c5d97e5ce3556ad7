import type { Status } from '../status.ts'
import { byId, fill, make, type Shown } from './dom.ts'
import { formatTime } from './format.ts'
import { isRunning, pulls, running } from './pulls.ts'
import { charts, figures, findings, held, registries } from './sections.ts'
import { members, type Names, nodeNames, swarm } from './swarm.ts'
import { runTrace } from './trace-view.ts'

/** Starts the page: asks for the status while the page is visible, and runs traces. */
export function start(): void {
  /** Milliseconds between two requests for the status; the mirror renews it at most twice a second. */
  const interval = 1500
  const shown: Shown = new Map()
  let timer: ReturnType<typeof setTimeout> | undefined
  let isAsking = false
  let before: Status | undefined

  const look = async () => {
    clearTimeout(timer)
    if (isAsking || document.hidden) return
    isAsking = true
    try {
      const response = await fetch('/api/status', { signal: AbortSignal.timeout(5000) })
      if (!response.ok) throw new Error(`status ${response.status}`)
      const status = (await response.json()) as Status
      show(status, shown, before)
      before = status
    } catch (error) {
      // The mirror has stopped or cannot be reached, and the page says so.
      showState('wrong', 'no contact with the mirror')
      byId('state').title = String(error)
    }
    isAsking = false
    timer = setTimeout(look, interval)
  }
  document.addEventListener('visibilitychange', () => void look())
  byId('trace').addEventListener('submit', (event) => {
    event.preventDefault()
    void trace(before === undefined ? {} : nodeNames(before))
  })
  void look()
}

export function show(status: Status, shown: Shown, before: Status | undefined): void {
  const { node, reasons } = status
  fill(shown, 'node', node.address, () => [node.address])
  showState(status.ready ? 'good' : 'wrong', status.ready ? 'ready' : 'not ready')
  fill(shown, 'reasons', reasons, () => [make('ul', '', ...reasons.map((reason) => make('li', '', reason)))])
  byId('reasons').hidden = reasons.length === 0
  fill(shown, 'figures', [status.totals, status.given, status.held, status.swarm], () => figures(status))
  fill(shown, 'history', status.history, () => charts(status.history))
  byId('check').hidden = status.findings === undefined
  fill(shown, 'findings', status.findings ?? [], () => findings(status.findings ?? []))
  // While parts run, fill this anew each time, because the rate changes even if they stand still.
  const isMoving = status.pulls.some(({ parts }) => parts.some(isRunning))
  fill(shown, 'running', isMoving ? status : '', () => running(status, before))
  byId('now').hidden = byId('running').childElementCount === 0
  const names = nodeNames(status)
  fill(shown, 'pulls', [status.pulls, names], () => pulls(status.pulls, names))
  fill(shown, 'registries', [status.resolve, status.registries, status.time], () => registries(status))
  fill(shown, 'members', status.swarm, () => members(status))
  fill(shown, 'swarm', [status.swarm, formatTime(status.time - node.startedAt)], () => swarm(status))
  fill(shown, 'held', status.held, () => held(status.held))
  const age = formatTime(Math.max(status.time - node.startedAt, 1000))
  fill(shown, 'version', [node, age], () => [`${node.version}, ${node.runtime}, ${node.store}, up for ${age}`])
  for (const time of document.querySelectorAll('time')) {
    const ms = status.time - Date.parse(time.dateTime)
    time.textContent = ms < 2000 ? 'now' : `${ms < 60000 ? `${Math.round(ms / 1000)} s` : formatTime(ms)} ago`
  }
  document.title = `${status.ready ? '' : 'not ready – '}swarmirror ${node.address}`
}

export function showState(className: string, text: string): void {
  const state = byId('state')
  if (state.textContent === text && state.className === className) return
  state.className = className
  state.replaceChildren(text)
  state.title = ''
}

export async function trace(names: Names): Promise<void> {
  const input = byId('reference')
  const button = document.querySelector('#trace button')
  if (!(input instanceof HTMLInputElement) || !(button instanceof HTMLButtonElement) || button.disabled) return
  button.disabled = true
  try {
    await runTrace(input.value, names)
  } catch (error) {
    byId('steps').replaceChildren(make('p', 'wrong', `the trace broke off: ${String(error)}`))
  }
  button.disabled = false
}
