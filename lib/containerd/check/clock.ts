import type { Finding } from '../finding.ts'

/** Asks another node for its time, as milliseconds since 1970; `undefined` if it does not answer. */
export type AskTime = (signal: AbortSignal) => Promise<number | undefined>

/** A capability is taken for valid up to this much before and after its time, in milliseconds (see lib/transfer). */
const TOLERANCE = 60_000
/** A Date header has whole seconds, and the answer travels: differences up to this say nothing, in milliseconds. */
const RESOLUTION = 2_000

/** How far this machine's clock is from those of other nodes. */
export async function checkClock(peers: readonly AskTime[], signal: AbortSignal): Promise<Finding> {
  const rule = {
    id: 'clock',
    expected: `clocks of all nodes within ${TOLERANCE / 1000} s`,
    why: 'a capability is good for a minute: nodes whose clocks differ by more refuse each other’s requests',
  }
  const answers = await Promise.all(
    peers.map(async (ask) => {
      const time = await ask(signal)
      return time === undefined ? undefined : Date.now() - time
    }),
  )
  signal.throwIfAborted()
  const differences = answers.filter((answer) => answer !== undefined).sort((a, b) => a - b)
  const median = differences[Math.floor(differences.length / 2)]
  if (median === undefined) {
    const reason = peers.length === 0 ? 'no other node is known' : 'no other node answers'
    return { ...rule, severity: 'unknown', seen: `the clock was compared with nobody’s: ${reason}` }
  }
  const compared = `of ${differences.length} other node${differences.length === 1 ? '' : 's'}`
  if (Math.abs(median) <= RESOLUTION) return { ...rule, severity: 'ok', seen: `the clock is that ${compared}` }
  const seen = `the clock is ${Math.round(Math.abs(median) / 1000)} s ${median > 0 ? 'ahead of' : 'behind'} that ${compared}`
  if (Math.abs(median) < TOLERANCE / 2) return { ...rule, severity: 'ok', seen }
  // Never an error: whose clock is wrong cannot be told from here, and after a boot it is soon set right.
  return { ...rule, severity: 'warning', seen, remedy: { text: 'synchronise the clocks of all nodes (NTP)' } }
}
