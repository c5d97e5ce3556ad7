import type { Counts, HistoryStatus } from '../../observe/history.ts'
import { type Child, draw, make } from './dom.ts'
import { formatBytes, formatCount, formatTime } from './format.ts'

/** The last day as small charts: what containerd got, what other nodes got, and what broke. */
export function charts(status: HistoryStatus): Child[] {
  const bytes = (value: number) => formatBytes(value)
  const times = (value: number) => formatCount(value, 'transfer', 'transfers')
  return [
    chart('Got by this node', status, { peer: 'from peers', local: 'held', upstream: 'upstream' }, bytes),
    chart('Given to other nodes', status, { given: 'given' }, bytes),
    chart('Broke off or corrupt', status, { failures: 'failed' }, times),
  ]
}

/** One chart: bars of the given counts on top of each other, with what they are if there are several. */
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
      // What is small beside the highest bar is still there.
      const height = Math.max((counts[name] / most) * 40, 1)
      top = Math.max(top - height, 0)
      return [draw('rect', { x: kept - 1 - ago + 0.1, y: top, width: 0.8, height, class: name })]
    })
  })
  const time = formatTime(interval * kept)
  const peak = most === 0 ? 'nothing' : `at most ${format(most)} in ${formatTime(interval)}`
  const label = `${title}, last ${time}: ${format(total)}, ${peak}`
  const drawing = draw(
    'svg',
    { viewBox: `0 0 ${kept} 40`, preserveAspectRatio: 'none', role: 'img', 'aria-label': label },
    draw('title', {}, label),
    ...shown,
  )
  const legend = names.length === 1 ? [] : names.map((name) => make('span', `key ${name}`, kinds[name]))
  return make(
    'figure',
    '',
    make('figcaption', '', make('span', '', title), make('span', 'muted', total === 0 ? 'nothing' : format(total))),
    drawing,
    make('div', 'scale muted', make('span', '', `${time} ago`), ...legend, make('span', '', 'now')),
  )
}
