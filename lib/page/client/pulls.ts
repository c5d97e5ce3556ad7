import type { Attempt, Pull, PullPart, Transferred } from '../../observe/activity.ts'
import type { Status } from '../status.ts'
import { breakable, type Child, draw, fold, make, picture, table } from './dom.ts'
import { formatBytes, formatDigest, formatRate, formatTime } from './format.ts'
import { type Names, nodeName, nodeNames } from './swarm.ts'

/** The role of a part, in the words of the trace; `blob` if nothing more is known. */
export function roleOf({ key, kind, mediaType = '' }: PullPart): string {
  if (key.includes('/')) return 'tag'
  if (kind === 'manifest') return /index|manifest\.list/.test(mediaType) ? 'index' : 'manifest'
  if (/config|container\.image/.test(mediaType)) return 'config'
  return /layer|rootfs/.test(mediaType) ? 'layer' : 'blob'
}

/** The name of a part, with its role. */
export function partName(key: string, role: string): HTMLElement {
  const name = key.includes('/') ? key.slice(key.lastIndexOf(':') + 1) : formatDigest(key)
  return make('span', 'name', name, make('span', 'muted', ` ${role}`))
}

/** Bytes of a part that are there: from peers, or in containerd while it gets the part from upstream. */
export function givenOf({ transfers, arrived }: PullPart): number {
  return arrived ?? transfers.reduce((sum, { bytes }) => sum + bytes, 0)
}

export function isRunning({ source, endedAt, transfers, arrived }: PullPart): boolean {
  return (
    arrived !== undefined ||
    (source === 'peer' && endedAt === undefined) ||
    transfers.some(({ outcome }) => outcome === undefined)
  )
}

export function isBroken({ transfers }: PullPart): boolean {
  return transfers.some(({ outcome }) => outcome === 'failed' || outcome === 'corrupt')
}

/** The parts on their way: how far each is, from whom, and how fast since the last status. */
export function running(status: Status, before: Status | undefined): Child[] {
  const { pulls, time, followers } = status
  const names = nodeNames(status)
  const rows = pulls.flatMap((pull) =>
    pull.parts.filter(isRunning).map((part) => {
      const { startedAt, size = 0 } = part
      const given = givenOf(part)
      const then = before?.pulls.find(({ id }) => id === pull.id)?.parts.find(({ key }) => key === part.key)
      const rate =
        then === undefined || before === undefined
          ? formatRate(given, time - startedAt)
          : formatRate(given - givenOf(then), time - before.time)
      const onTo = followers[part.key]?.split(', ') ?? []
      const progress = document.createElement('progress')
      if (size > 0) Object.assign(progress, { max: size, value: Math.min(given, size) })
      progress.setAttribute('aria-label', 'Progress')
      const giving = part.transfers
        .filter(({ outcome }) => outcome === undefined)
        .flatMap(({ attempts }) => attempts.filter(({ ended, bytes }) => ended === undefined && bytes > 0))
      const from = giving.map(({ peer, isArriving }) =>
        make('div', '', peerName(peer, names), isArriving && make('span', 'muted', ' in flight')),
      )
      return [
        make('span', 'name', partName(part.key, roleOf(part)), make('div', 'muted', pull.name)),
        progress,
        size > 0 ? `${formatBytes(given)} of ${formatBytes(size)}` : formatBytes(given),
        rate,
        make(
          'div',
          '',
          ...(part.arrived !== undefined ? [make('span', 'careful', 'upstream')] : from),
          part.arrived === undefined && from.length === 0 && make('span', 'muted', 'looking for peers'),
          ...onTo.map((address) => make('div', '', make('span', 'muted', 'and on to '), peerName(address, names))),
        ),
      ]
    }),
  )
  const columns = { part: 'mono', progress: 'wide', 'so far': 'number', rate: 'number', from: 'mono peers' }
  return rows.length === 0 ? [] : [table('Running transfers', columns, rows, 'running')]
}

export function pulls(all: readonly Pull[], names: Names): Child[] {
  if (all.length === 0) {
    return [make('p', 'muted', 'None yet. Pull an image on this node, as in crictl pull docker.io/library/alpine:3.20')]
  }
  return all.map((pull, index) => {
    const { parts } = pull
    const count = (is: (part: PullPart) => boolean) => parts.filter(is).length
    const sources = {
      'from peers': count(({ source }) => source === 'peer'),
      held: count(({ source }) => source === 'local'),
      upstream: count(({ source }) => source === 'none'),
    }
    const from = Object.entries(sources).flatMap(([name, number]) => (number > 0 ? [`${number} ${name}`] : []))
    const broken = count(isBroken)
    const bytes = parts.reduce((sum, part) => sum + (roleOf(part) === 'tag' ? 0 : (part.size ?? 0)), 0)
    const when = document.createElement('time')
    when.className = 'when'
    when.dateTime = new Date(pull.startedAt).toISOString()
    const summary = [
      make('span', 'name', pull.name),
      broken > 0 && make('span', 'wrong', `${broken} broke off`),
      make('span', 'muted', from.join(', ')),
      make('span', 'number', bytes > 0 ? formatBytes(bytes) : ''),
      when,
    ]
    const columns = {
      ...{ part: 'mono', from: 'peers', size: 'number', 'first byte': 'number wide' },
      ...{ time: 'number', rate: 'number wide', when: 'wide' },
    }
    const rows = parts.map((part) => partRow(part, pull, names))
    const inside = [
      table(`Parts of ${pull.name}`, columns, rows, 'parts'),
      pull.more > 0 && make('p', 'muted more', `and ${pull.more} more requests`),
    ]
    return fold(String(pull.id), index === 0, summary, inside)
  })
}

export function partRow(part: PullPart, pull: Pull, names: Names): Child[] {
  const { source, size = 0, headMs, startedAt, endedAt } = part
  const ms = endedAt === undefined || source === 'none' ? undefined : endedAt - startedAt
  return [
    partName(part.key, roleOf(part)),
    make('div', '', ...waysOf(part, names)),
    size > 0 ? formatBytes(size) : '',
    headMs === undefined || source === 'none' ? '' : formatTime(headMs),
    ms === undefined ? '' : formatTime(ms),
    ms === undefined || isBroken(part) || roleOf(part) === 'tag' ? '' : formatRate(size, ms),
    timeline(part, pull),
  ]
}

/** Where a part came from, a line for each: the peers one after another, and upstream. */
export function waysOf(part: PullPart, names: Names): Child[] {
  const { source, size = 0, transfers, isForUpstream, endedAt } = part
  const line = (...children: Child[]) => make('div', '', ...children)
  if (isForUpstream) return [line('upstream', make('span', 'muted', ' resolves it'))]
  if (source === 'local') return [line('this node')]
  const attempts = transfers.flatMap((transfer) => transfer.attempts)
  const isOver = source === 'peer' && endedAt !== undefined && !isBroken(part)
  const [only] = attempts
  const isPlain = isOver && attempts.length === 1 && only?.ended === undefined && only?.isArriving !== true
  const lines: Child[] = transfers.flatMap((transfer) => [
    ...transfer.attempts.map((attempt) => line(peerName(attempt.peer, names), ...(isPlain ? [] : cameOf(attempt)))),
    transfer.outcome === 'corrupt' && line(make('span', 'wrong', 'did not match its digest, and was refused')),
    transfer.outcome === 'cancelled' && line(make('span', 'muted', 'its client left')),
  ])
  const given = transfers.filter(({ outcome }) => outcome === 'failed').reduce((sum, { bytes }) => sum + bytes, 0)
  const rest = size > given ? ` ${formatBytes(size - given)}` : ''
  if (source === 'none' && given > 0) lines.push(line(make('span', 'careful', `upstream${rest}, the rest`)))
  else if (source === 'none') {
    const why = attempts.length === 0 ? ' nobody has it' : ' no peer gave it'
    lines.push(line(make('span', 'careful', 'upstream'), make('span', 'muted', why)))
  } else if (endedAt !== undefined && transfers.at(-1)?.outcome === 'failed')
    lines.push(line(make('span', 'wrong', rest === '' ? 'no peer left' : `no peer left:${rest} come from upstream`)))
  else if (lines.length === 0) lines.push(line(make('span', 'muted', 'asking')))
  return lines
}

/** How the attempt at one peer went. */
export function cameOf({ from, to, bytes, ended, isArriving }: Attempt): Child[] {
  const words = {
    unreachable: 'unreachable',
    silent: 'silent',
    invalid: 'answered nonsense',
    slow: 'slow',
    busy: 'busy',
    missing: 'does not have it',
    late: 'late',
    gone: 'got no more itself',
    moved: 'moved to a better one',
  }
  const took = formatTime(to - from)
  const isBad = ended === 'unreachable' || ended === 'silent' || ended === 'invalid'
  if (bytes === 0) {
    const text = ended === undefined ? '' : ` ${words[ended]}${ended === 'missing' ? '' : `, ${took}`}`
    return [make('span', isBad ? 'wrong' : 'muted', text)]
  }
  const gave = make('span', 'muted', `${isArriving ? ' in flight,' : ''} ${formatBytes(bytes)} in ${took}`)
  const tone = isBad ? 'wrong' : ended === 'moved' ? 'muted' : 'careful'
  return [gave, ended !== undefined && make('span', tone, `, then ${words[ended]}`)]
}

/** When a part was on its way, on the time scale of its pull. */
export function timeline({ source, startedAt, endedAt, transfers, isForUpstream }: PullPart, pull: Pull): Element {
  const end = Math.max(pull.lastAt, ...pull.parts.map((part) => part.endedAt ?? part.startedAt))
  const whole = Math.max(end - pull.startedAt, 1)
  const bar = (from: number, to: number, kind: string) => {
    const x = Math.min(Math.max((from - pull.startedAt) / whole, 0), 0.98)
    const width = Math.min(Math.max((to - from) / whole, 0.01), 1 - x)
    return draw('rect', { x: x * 100, y: 2, width: width * 100, height: 8, class: kind })
  }
  const last = endedAt ?? end
  const bars = transfers.flatMap((transfer: Transferred) =>
    transfer.attempts.map(({ from, to, bytes, ended }) =>
      bar(
        transfer.startedAt + from,
        transfer.startedAt + to,
        transfer.outcome !== 'corrupt' && (bytes > 0 || ended === undefined) ? 'peer' : 'failed',
      ),
    ),
  )
  if (source === 'none') bars.push(bar(last, last, isForUpstream ? 'local' : 'upstream'))
  else if (bars.length === 0) bars.push(bar(startedAt, last, source === 'local' ? 'local' : 'peer'))
  const text = `from ${formatTime(Math.max(startedAt - pull.startedAt, 0))} to ${formatTime(Math.max(last - pull.startedAt, 0))}`
  return picture(text, 'timeline', '0 0 100 12', bars)
}

/** A peer, by its node's name if that is known. */
export function peerName(address: string, names: Names): HTMLElement {
  const name = names[address]
  return name === undefined ? breakable(address) : nodeName(name, address)
}
