import { styleText } from 'node:util'

export type Look = 'bold' | 'dim' | 'red' | 'green' | 'yellow'

/** Gives a text a look on a terminal, or returns it unchanged. */
export type Paint = (look: Look, text: string) => string

export const plain: Paint = (_look, text) => text

export const coloured: Paint = (look, text) => styleText(look, text, { validateStream: false })

/** Colours for a terminal, unless `NO_COLOR` (https://no-color.org) is set or the terminal cannot show them. */
export function paintFor(isTerminal: boolean, environment: Readonly<Record<string, string | undefined>>): Paint {
  return isTerminal && !environment.NO_COLOR && environment.TERM !== 'dumb' ? coloured : plain
}
