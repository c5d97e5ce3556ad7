import { escaped } from '../observe/log.ts'
import { type Look, type Paint, plain } from '../observe/paint.ts'

const LOOKS: Readonly<Record<string, Look>> = { debug: 'dim', info: 'bold', warn: 'yellow', error: 'red' }

/**
 * A line of the log as a person reads it at a terminal: time of day, level, event, and the fields as `name=value`. What is
 * no line of the log stays as it is.
 *
 * @param line with its line feed
 */
export function readableLine(line: string, paint: Paint = plain): string {
  const entry = entryOf(line)
  if (entry === undefined) return line
  const { time, level, event, ...fields } = entry
  const clock = new Date(String(time)).toTimeString().slice(0, 8)
  const told = Object.entries(fields).map(([name, value]) => `${paint('dim', `${name}=`)}${shown(value)}`)
  const head = [paint('dim', clock), String(level).padEnd(5), paint(LOOKS[String(level)] ?? 'bold', shown(event))]
  return `${[...head, ...told].join('  ')}\n`
}

function entryOf(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith('{"time":')) return undefined
  return JSON.parse(line) as Record<string, unknown>
}

/**
 * A value without quotation marks. Of an error there is what it says, and of anything else with parts that it has some: the
 * log as JSON has them all. What the terminal could obey stays escaped.
 */
function shown(value: unknown): string {
  if (Array.isArray(value)) return value.map(shown).join(', ')
  if (typeof value === 'object' && value !== null) return 'message' in value ? shown(value.message) : '{...}'
  const text = String(value)
  return escaped(text, /[\p{Cc}\p{Cf}\u2028\u2029]/gu)
}
