import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Key } from '../../../../lib/oci/key.ts'
import { Courier, type CourierOptions } from '../../../../lib/swarm/announce/courier.ts'
import { Lanes } from '../../../../lib/swarm/announce/lanes.ts'
import { type LaneName, Placement } from '../../../../lib/swarm/announce/placement.ts'
import { Contacts } from '../../../../lib/swarm/members/contacts.ts'
import { NetworkMap } from '../../../../lib/swarm/members/network-map.ts'
import { ManualClock } from '../../../doubles/manual-clock.ts'
import { idOf, SimulatedDht, seeded } from '../../../doubles/simulated-dht.ts'

/** Milliseconds of CPU that a placement takes in these tests. */
const EACH = 3

/** A courier whose work is told how much CPU it takes, and no more. */
function makeCourier(options: CourierOptions) {
  const clock = new ManualClock()
  const address = { host: '10.0.0.1', port: 1 }
  const map = new NetworkMap({ ...address, id: idOf(address) })
  const contacts = new Contacts({ table: new SimulatedDht(clock, seeded(1)).table(new Uint8Array(32)), map, clock })
  const lanes = new Lanes()
  let used = 0
  let worked = 0
  const work = () => {
    used += EACH
    worked++
    return 1
  }
  const records = { relaysOf: () => [] }
  const courier = new Courier({ contacts, records, lanes, work, clock, cpu: () => used }, options)
  const fill = (name: LaneName, count: number) => {
    for (let at = 0; at < count; at++) lanes.add(new Placement(`${name} ${at}` as Key, new Uint8Array(32), 0), name)
    courier.go()
  }
  return { clock, courier, fill, used: () => used, worked: () => worked }
}

for (const share of [0.1, 0.3]) {
  test(`Courier uses ${share} of a core while there is more to announce, and no less`, async () => {
    const { clock, courier, fill, used } = makeCourier({ cpuShare: share })
    fill('fresh', 1_000)
    for (let second = 1; second <= 5; second++) {
      // The clock of the test stands still while work is done, so that a second has a little more room.
      await clock.pass(1_000)
      const most = (share / (1 - share)) * second * 1_000 + 16 * EACH
      assert.ok(used() <= most, `${used()} ms after ${second} s`)
      assert.ok(used() >= 0.9 * share * second * 1_000, `${used()} ms after ${second} s`)
    }
    courier.close()
  })
}

test('Courier keeps withdrawals waiting for no budget', async () => {
  const { clock, courier, fill, worked } = makeCourier({ cpuShare: 0.01 })
  fill('refresh', 100)
  await clock.pass(10)
  const before = worked()
  assert.ok(before < 100, `${before} of 100`)
  fill('withdrawals', 500)
  await clock.pass(10)
  // It was waiting for its budget already, for as long as that takes.
  await clock.pass((16 * EACH) / 0.01)
  const withWithdrawals = worked()
  assert.ok(withWithdrawals - before >= 500, `${withWithdrawals - before}`)
  courier.close()
  await clock.pass(60_000)
  assert.equal(worked(), withWithdrawals, 'nothing goes on after close')
})
