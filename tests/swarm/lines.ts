import process from 'node:process'
import { createInterface } from 'node:readline'

/** Calls from one process to another, by name: question and answer, which both survive JSON. */
export type CallTable = Readonly<Record<string, { readonly ask: unknown; readonly answer: unknown }>>

export type Handlers<Calls extends object> = {
  readonly [Name in keyof Calls]: Calls[Name] extends { readonly ask: infer Ask; readonly answer: infer Answer }
    ? (ask: Ask) => Promise<Answer>
    : never
}

/** A line to a worker. */
export interface Request {
  readonly id: number
  readonly call: string
  readonly ask: unknown
}

/** A line from a worker. */
export type Response =
  | { readonly id: number; readonly answer: unknown }
  | { readonly id: number; readonly error: string }

/**
 * Answers the calls that arrive as lines on standard input, each with a line on standard output, in any order.
 *
 * @param end called when the input ends because the caller is done or gone; the process should then end by itself
 */
export function serveCalls<Calls extends object>(handlers: Handlers<Calls>, end: () => Promise<void>): void {
  const table = new Map(Object.entries(handlers) as [string, (ask: unknown) => Promise<unknown>][])
  const respond = async ({ id, call, ask }: Request): Promise<Response> => {
    try {
      const handler = table.get(call)
      if (handler === undefined) throw new Error(`no call ${call} here`)
      return { id, answer: await handler(ask) }
    } catch (error) {
      return { id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }
    }
  }
  const lines = createInterface({ input: process.stdin })
  lines.on('line', async (line) => {
    process.stdout.write(`${JSON.stringify(await respond(JSON.parse(line) as Request))}\n`)
  })
  lines.on('close', end)
}
