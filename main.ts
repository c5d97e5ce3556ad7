import process from 'node:process'
import { runCommand } from './lib/commands/index.ts'
import { selfCommand } from './lib/platform/runtime.ts'

const stop = new AbortController()
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop.abort())

/** Writes to a stream. Deno throws some errors that Node and Bun emit. */
const writerTo = (stream: NodeJS.WriteStream) => (text: string) => {
  try {
    stream.write(text)
  } catch (error) {
    stream.emit('error', error)
  }
}
const print = writerTo(process.stdout)
const report = writerTo(process.stderr)

// If the log cannot be written (no reader, no space), there is nobody to tell, and a mirror works without a log.
process.stderr.on('error', () => undefined)

// A command whose output cannot be written completes what it does, such as writing files, and then fails.
process.stdout.on('error', ({ message }) => {
  if (process.exitCode !== 1) report(`standard output: ${message}\n`)
  process.exitCode = 1
})

// On Deno and Bun, `fetch` would ask a proxy of the environment even for the doors of this machine.
const environment = { ...process.env }
for (const name of Object.keys(environment)) if (/_proxy$/i.test(name)) delete process.env[name]

const exitCode = await runCommand({
  args: process.argv.slice(2),
  environment,
  print,
  report,
  terminal: { output: process.stdout.isTTY === true, errors: process.stderr.isTTY === true },
  stop: stop.signal,
  self: selfCommand(process.argv[1] ?? ''),
})
process.exitCode ||= exitCode
