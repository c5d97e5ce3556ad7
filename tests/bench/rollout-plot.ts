import { nameOf } from './rollout-plan.ts'
import { average, BOUND, FULL, OWN, type Results } from './rollout-results.ts'

const WIDTH = 760
const LABELS = 170
const FIGURES = 90
const LINE = 16
const GROUP = 2 * LINE + 12
const TOP = 64
/** Seconds at the left and at the right end. They are the same in every plot, so that plots can be compared. */
const LEAST = 0.1
const MOST = 1000
/** The bars can be told apart without colour, by their order and figures. */
const COLOURS = { direct: '#9aa4b2', mirrored: '#1f7a5c' } as const

/**
 * Draws the average pull of both ways as pairs of horizontal bars, in a self-contained SVG for light and dark pages. Lengths
 * are logarithmic, because rollouts of small and large images differ by a factor of a hundred.
 */
export function plotRollouts({ nodes, link, results }: Results): string {
  const title = `Average pull of ${nodes} nodes, links of ${link} Mbit/s`
  const room = WIDTH - LABELS - FIGURES
  const place = (seconds: number) =>
    (Math.log10(Math.min(Math.max(seconds, LEAST), MOST) / LEAST) / Math.log10(MOST / LEAST)) * room
  const height = TOP + results.length * GROUP + 24
  const bottom = height - 20

  const lines: string[] = []
  for (let seconds = LEAST; seconds <= MOST * 1.001; seconds *= 10) {
    const x = round(LABELS + place(seconds))
    lines.push(`<path class="grid" d="M${x} ${TOP - 8}V${bottom}"/>`)
    lines.push(`<text x="${x}" y="${bottom + 14}" text-anchor="middle">${Number(seconds.toPrecision(1))} s</text>`)
  }
  const groups = results.flatMap((result, index) => {
    const y = TOP + index * GROUP
    const one = (way: 'direct' | 'mirrored', at: number) => {
      const rollout = result[way]
      if (rollout === undefined) return []
      const { pulls, busy, own, upstreamLink } = rollout
      const seconds = average(pulls)
      const width = Math.max(round(place(seconds)), 1)
      const mark = busy >= BOUND && own >= OWN && upstreamLink < FULL ? ' (CPU)' : ''
      return [
        `<rect x="${LABELS}" y="${at}" width="${width}" height="${LINE - 2}" fill="${COLOURS[way]}"/>`,
        `<text x="${LABELS + width + 6}" y="${at + LINE - 4}">${seconds.toFixed(2)} s${mark}</text>`,
      ]
    }
    return [
      `<text x="${LABELS - 8}" y="${y + LINE + 4}" text-anchor="end">${nameOf(result)}, ${result.pattern}</text>`,
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
    `<title>${title}</title>`,
    '<style>text { fill: #24292f } .grid { stroke: #8884; fill: none } @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }</style>',
    `<text x="${LABELS}" y="18" font-size="14" font-weight="600">${title}</text>`,
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
