import { rule } from '../containerd/rule.ts'
import { CLOCK_SKEW } from '../peers/credentials.ts'
import type { AskedDoors } from './bootstrap-doors.ts'

/** A Date header counts whole seconds, and the answer takes time: a smaller difference says nothing, in milliseconds. */
const RESOLUTION = 2_000

export const CLOCK = rule({
  id: 'clock',
  reads: ({ doors }: Pick<AskedDoors, 'doors'>) => doors,
  judges(doors) {
    const ahead = doors.flatMap(({ aheadMs }) => aheadMs ?? []).sort((a, b) => a - b)
    // The middle one, so that a single wrong clock among the others does not count.
    const median = ahead[Math.floor(ahead.length / 2)]
    if (median === undefined) {
      const reason = doors.length === 0 ? 'no other node is known' : 'no other node answers'
      return { severity: 'unknown', seen: `there was no clock to compare with: ${reason}` }
    }
    const nodes = `${ahead.length} other node${ahead.length === 1 ? '' : 's'}`
    const apart = Math.abs(median)
    if (apart <= RESOLUTION) return { severity: 'ok', seen: `the clock agrees with that of ${nodes}` }
    const seen = `the clock is ${Math.round(apart / 1000)} s ${median > 0 ? 'ahead of' : 'behind'} that of ${nodes}`
    if (apart < CLOCK_SKEW / 2) return { severity: 'ok', seen }
    // Never an error: nobody can tell from here which clock is wrong, and after a boot it is soon set right.
    return { severity: 'warning', seen, remedy: { text: 'synchronise the clocks of all nodes (NTP)' } }
  },
  expected: `clocks of all nodes within ${CLOCK_SKEW / 1000} s`,
  why: 'a capability is good for a minute: nodes whose clocks differ by more refuse each other’s requests',
})
