/** The escape codes that begin and end a look (ECMA-48, SGR). */
const CODES = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
} as const

export type Look = keyof typeof CODES

/** Gives a text a look on a terminal, or returns it unchanged. */
export type Paint = (look: Look, text: string) => string

export const plain: Paint = (_look, text) => text

export const coloured: Paint = (look, text) => {
  const [begin, end] = CODES[look]
  return `\u001b[${begin}m${text}\u001b[${end}m`
}

/** Colours for a terminal, unless `NO_COLOR` (https://no-color.org) is set or the terminal cannot show them. */
export function paintFor(isTerminal: boolean, environment: Readonly<Record<string, string | undefined>>): Paint {
  return isTerminal && !environment.NO_COLOR && environment.TERM !== 'dumb' ? coloured : plain
}
