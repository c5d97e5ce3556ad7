/** Two averages that stand beside each other, in seconds. */
export interface Bar {
  readonly label: string
  readonly direct: number
  readonly mirrored: number
}

const WIDTH = 760
const LABELS = 150
const FIGURES = 70
const LINE = 16
const GROUP = 2 * LINE + 12
const TOP = 64
/** Told apart without colour, too: the order and the figures say which is which. */
const COLOURS = { direct: '#9aa4b2', mirrored: '#1f7a5c' } as const

/**
 * Draws pairs of horizontal bars as an SVG that stands on its own, readable on a light and on a dark page. Lengths are
 * logarithmic, since rollouts of small and large images differ by a hundred times.
 */
export function plotRollouts(title: string, bars: readonly Bar[]): string {
  const values = bars.flatMap(({ direct, mirrored }) => [direct, mirrored])
  const least = 10 ** Math.floor(Math.log10(Math.min(...values)))
  const most = 10 ** Math.ceil(Math.log10(Math.max(...values)))
  const room = WIDTH - LABELS - FIGURES
  const place = (seconds: number) => (Math.log10(seconds / least) / Math.log10(most / least)) * room
  const height = TOP + bars.length * GROUP + 24
  const bottom = height - 20

  const lines: string[] = []
  for (let seconds = least; seconds <= most * 1.001; seconds *= 10) {
    const x = round(LABELS + place(seconds))
    lines.push(`<path class="grid" d="M${x} ${TOP - 8}V${bottom}"/>`)
    lines.push(`<text x="${x}" y="${bottom + 14}" text-anchor="middle">${Number(seconds.toPrecision(1))} s</text>`)
  }
  const groups = bars.flatMap((bar, index) => {
    const y = TOP + index * GROUP
    const one = (way: 'direct' | 'mirrored', at: number) => {
      const width = Math.max(round(place(bar[way])), 1)
      return [
        `<rect x="${LABELS}" y="${at}" width="${width}" height="${LINE - 2}" fill="${COLOURS[way]}"/>`,
        `<text x="${LABELS + width + 6}" y="${at + LINE - 4}">${bar[way].toFixed(2)} s</text>`,
      ]
    }
    return [
      `<text x="${LABELS - 8}" y="${y + LINE + 4}" text-anchor="end">${escaped(bar.label)}</text>`,
      ...one('direct', y),
      ...one('mirrored', y + LINE),
    ]
  })
  const legend = (['direct', 'mirrored'] as const).flatMap((way, index) => [
    `<rect x="${LABELS + index * 190}" y="32" width="12" height="12" fill="${COLOURS[way]}"/>`,
    `<text x="${LABELS + index * 190 + 18}" y="42">${way === 'direct' ? 'from the registry' : 'through the mirrors'}</text>`,
  ])
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" font-size="12" role="img">`,
    `<title>${escaped(title)}</title>`,
    '<style>text { fill: #24292f } .grid { stroke: #8884; fill: none } @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }</style>',
    `<text x="${LABELS}" y="18" font-size="14" font-weight="600">${escaped(title)}</text>`,
    ...legend,
    ...lines,
    ...groups,
    '</svg>',
    '',
  ].join('\n')
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
