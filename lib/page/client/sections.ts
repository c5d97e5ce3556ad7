import type { Counts, HistoryStatus } from '../../observe/history.ts'
import type { ShownFinding, Status } from '../status.ts'
import { breakable, type Child, draw, fold, make, picture, table } from './dom.ts'
import { formatBytes, formatCount, formatShare, formatTime } from './format.ts'

export function figures(status: Status): Child[] {
  const { requests, bytes } = status.totals
  const all = requests.local + requests.peer + requests.none
  const { held, swarm } = status
  const figure = (title: string, value: string, note: string) =>
    make('div', '', make('dt', '', title), make('dd', '', value), make('dd', 'note', note))
  return [
    figure(
      'Hit rate, of bytes',
      formatShare(bytes.local + bytes.peer, bytes.local + bytes.peer + bytes.upstream),
      `${formatShare(requests.local + requests.peer, all)} of ${formatCount(all, 'request', 'requests')}`,
    ),
    figure('Upstream was spared', formatBytes(bytes.peer), `${formatBytes(bytes.upstream)} came from there`),
    figure('Given to peers', formatBytes(status.given), 'since the start'),
    figure(
      'Held here',
      held.unsized > 0 ? `${formatBytes(held.bytes)}+` : formatBytes(held.bytes),
      `${formatCount(held.images.length + held.more, 'image', 'images')}, ${formatCount(held.digests, 'digest', 'digests')}`,
    ),
    figure(
      'Other nodes',
      String(swarm.size - 1),
      swarm.size <= 1 ? 'alone, and looking' : `${swarm.connected} connected, ${swarm.aside} put aside`,
    ),
  ]
}

/** The findings of the check: first the problems, each with its remedy, and then everything that is right, in one line. */
export function findings(all: readonly ShownFinding[]): Child[] {
  const classes = { error: 'wrong', warning: 'careful', unknown: 'muted', ok: 'good' }
  const words = { error: 'error', warning: 'warning', unknown: 'unknown', ok: 'right' }
  const title = ({ id, severity, seen }: ShownFinding) => [
    make('span', `severity ${classes[severity]}`, words[severity]),
    make('span', 'name', seen),
    make('span', 'mono muted', id),
  ]
  const row = (name: string, value: string | undefined, isText = false) =>
    value === undefined ? [] : [make('dt', '', name), make('dd', '', isText ? make('pre', '', value) : value)]
  const open = all.filter(({ severity }) => severity !== 'ok')
  const right = all.filter(({ severity }) => severity === 'ok')
  const shown: Child[] = open.map((finding, index) =>
    fold(`${finding.id} ${finding.seen}`, index === 0 && finding.severity === 'error', title(finding), [
      make(
        'dl',
        '',
        ...row('expected', finding.expected),
        ...row('why', finding.why),
        ...row('remedy', finding.remedy, true),
      ),
    ]),
  )
  if (right.length > 0) {
    const list = right.map(({ id, seen }) => [make('span', 'mono', id), make('span', 'name', seen)])
    const inside = table('What is right', { rule: '', seen: 'name' }, list)
    const text = formatCount(right.length, 'check passed', 'checks passed')
    shown.push(fold('right', false, [make('span', 'severity good', 'right'), make('span', 'name', text)], [inside]))
  }
  return shown
}

/** Who resolves; for each registry, if it depends on whether the registry answers. */
export function registries({ resolve, registries, time }: Status): Child[] {
  const ways = {
    upstream: 'Registries themselves say what a tag means and who may pull (--resolve upstream).',
    swarm: 'The swarm says what a tag means, and nobody checks secrets (--resolve swarm).',
    fallback:
      'No registry was needed recently. As long as a registry answers, it says what a tag means and who may pull.',
  }
  if (registries.length === 0) return [make('p', 'muted', ways[resolve])]
  const words = {
    answers: ['good', 'answers'],
    silent: ['wrong', 'silent'],
    unasked: ['careful', 'not asked'],
  } as const
  const rows = registries.map(({ registry, state, since, resolvedBy, reason }) => [
    breakable(registry),
    make('span', words[state][0], words[state][1]),
    formatTime(Math.max(time - since, 0)),
    resolvedBy,
    make('span', 'muted', reason),
  ])
  const columns = { registry: 'mono', state: '', since: 'number', 'resolved by': '', reason: 'wide name' }
  return [table('Registries', columns, rows)]
}

export function held({ images, more }: Status['held']): Child[] {
  if (images.length === 0) return [make('p', 'muted', 'No image by name.')]
  const list = make('ul', 'images', ...images.map((image) => make('li', 'mono', image)))
  // The keyboard can scroll only elements that can have the focus.
  list.tabIndex = 0
  list.setAttribute('aria-label', 'Images held here')
  return [list, more > 0 && make('p', 'muted more', `and ${more} more`)]
}

/** The last day as small charts: bytes that containerd got, bytes that other nodes got, and failures. */
export function charts(status: HistoryStatus): Child[] {
  const bytes = (value: number) => formatBytes(value)
  const times = (value: number) => formatCount(value, 'transfer', 'transfers')
  return [
    chart('Got by this node', status, { peer: 'from peers', local: 'held', upstream: 'upstream' }, bytes),
    chart('Given to other nodes', status, { given: 'given' }, bytes),
    chart('Broke off or corrupt', status, { failures: 'failed' }, times),
  ]
}

/** One chart: stacked bars of the given counts, with a legend if there are several. */
export function chart(
  title: string,
  { bars, interval, kept }: HistoryStatus,
  kinds: Partial<Record<keyof Counts, string>>,
  format: (value: number) => string,
): HTMLElement {
  const names = Object.keys(kinds) as (keyof Counts)[]
  const heightOf = (counts: Counts) => names.reduce((sum, name) => sum + counts[name], 0)
  const most = Math.max(...bars.map(([, counts]) => heightOf(counts)), 0)
  const total = bars.reduce((sum, [, counts]) => sum + heightOf(counts), 0)
  const shown = bars.flatMap(([ago, counts]) => {
    let top = 40
    return names.flatMap((name) => {
      if (counts[name] === 0) return []
      // A count that is small beside the highest bar must still show.
      const height = Math.max((counts[name] / most) * 40, 1)
      top = Math.max(top - height, 0)
      return [draw('rect', { x: kept - 1 - ago + 0.1, y: top, width: 0.8, height, class: name })]
    })
  })
  const time = formatTime(interval * kept)
  const peak = most === 0 ? 'nothing' : `at most ${format(most)} in ${formatTime(interval)}`
  const label = `${title}, last ${time}: ${format(total)}, ${peak}`
  const legend = names.length === 1 ? [] : names.map((name) => make('span', `key ${name}`, kinds[name]))
  return make(
    'figure',
    '',
    make('figcaption', '', make('span', '', title), make('span', 'muted', total === 0 ? 'nothing' : format(total))),
    picture(label, 'chart', `0 0 ${kept} 40`, shown),
    make('div', 'scale muted', make('span', '', `${time} ago`), ...legend, make('span', '', 'now')),
  )
}
