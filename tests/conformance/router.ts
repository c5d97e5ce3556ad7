import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Key } from '../../lib/oci/key.ts'
import type { Peer } from '../../lib/swarm/router.ts'
import { waitFor, within } from '../fixtures/wait.ts'
import { type SwarmFixture, type SwarmMember, withSwarmOf } from './members.ts'

const key = (name: string): Key => `registry.example/team/${name}:1` as Key
const never = new AbortController().signal
/** Milliseconds for a single lookup: it takes that long if a node no longer answers. */
const LOOKUP = 1_000
/** Milliseconds for which a router may return the results of an earlier lookup. */
const MEMORY = 2_000

/**
 * The suite that every Router must pass.
 *
 * @param name the name of the router, with which the names of the tests begin
 * @param makeFixture called for each test
 */
export function routerConformance(name: string, makeFixture: () => Promise<SwarmFixture>): void {
  const check = (what: string, count: number, body: (...members: SwarmMember[]) => Promise<void>) =>
    test(`${name}: ${what}`, () => withSwarmOf(count, makeFixture, body))

  check('a node that is alone is ready, finds no peer and can announce', 1, async (alone) => {
    assert.deepEqual(await found(alone, key('a')), [])
    alone.router.advertise([key('a')])
    await settled(alone)
    assert.deepEqual(await found(alone, key('a')), [])
  })

  check(
    'lookup finds the peers that advertise a key, each once and with its address, and no others',
    4,
    async (a, b, c, d) => {
      a.router.advertise([key('one'), key('both')])
      b.router.advertise([key('both')])
      await Promise.all([settled(a), settled(b)])
      for (const asker of [c, d]) {
        assert.deepEqual(await found(asker, key('one')), addressesOf(a))
        assert.deepEqual(await found(asker, key('both')), addressesOf(a, b))
        assert.deepEqual(await found(asker, key('none')), [])
      }
    },
  )

  check('lookup leaves the node itself out', 2, async (a, b) => {
    a.router.advertise([key('a')])
    b.router.advertise([key('a')])
    await Promise.all([settled(a), settled(b)])
    assert.deepEqual(await found(a, key('a')), addressesOf(b))
    assert.deepEqual(await found(b, key('a')), addressesOf(a))
  })

  check('withdraw takes back the announcement of that key and that node only', 3, async (a, b, c) => {
    a.router.advertise([key('kept'), key('gone')])
    b.router.advertise([key('gone')])
    await Promise.all([settled(a), settled(b)])
    assert.deepEqual(await found(c, key('gone')), addressesOf(a, b))
    a.router.withdraw([key('gone'), key('never advertised')])
    await settled(a)
    await untilFound(c, key('gone'), addressesOf(b))
    assert.deepEqual(await found(c, key('kept')), addressesOf(a))
    a.router.advertise([key('gone')])
    await settled(a)
    await untilFound(c, key('gone'), addressesOf(a, b))
  })

  check('advertise and withdraw in one breath leave nothing behind', 2, async (a, b) => {
    a.router.advertise([key('x')])
    a.router.withdraw([key('x')])
    a.router.withdraw([key('y')])
    a.router.advertise([key('y')])
    await settled(a)
    assert.deepEqual(await found(b, key('x')), [])
    assert.deepEqual(await found(b, key('y')), addressesOf(a))
  })

  check('advertise takes many keys at once', 2, async (a, b) => {
    const names = Array.from({ length: 60 }, (_, index) => key(`many-${index}`))
    a.router.advertise(names)
    a.router.advertise(names.slice(0, 5))
    await settled(a)
    for (const name of names) assert.deepEqual(await found(b, name), addressesOf(a))
  })

  check('lookup gives nothing for a signal that is aborted already, and may be left early', 2, async (a, b) => {
    a.router.advertise([key('a')])
    await settled(a)
    assert.deepEqual(await collect(b.router.lookup(key('a'), AbortSignal.abort())), [])
    for await (const peer of b.router.lookup(key('a'), never)) {
      assert.deepEqual({ host: peer.host, port: peer.port }, a.address)
      break
    }
    assert.deepEqual(await found(b, key('a')), addressesOf(a))
  })

  check('settled throws the reason of its signal, or has nothing to wait for', 1, async (a) => {
    await within('settled', a.router.settled(never))
    const settling = a.router.settled(AbortSignal.abort(new Error('too late')))
    // A router without requests under way may be settled already.
    await settling.catch((error) => assert.match(String(error), /too late/))
  })

  check(
    'close ends a node: others do not find it for long, nor wait for it, and it does nothing more',
    3,
    async (a, b, c) => {
      a.router.advertise([key('a')])
      b.router.advertise([key('b')])
      await Promise.all([settled(a), settled(b)])
      a.router.withdraw([key('a')])
      await settled(a)
      await within('close', a.close())
      await within('the second close', a.close())
      assert.deepEqual(await collect(a.router.lookup(key('b'), never)), [])
      a.router.advertise([key('late')])
      assert.deepEqual(await found(c, key('a')), [])
      assert.deepEqual(await found(c, key('late')), [])
      assert.deepEqual(await found(c, key('b')), addressesOf(b))
    },
  )
}

async function settled({ router }: SwarmMember): Promise<void> {
  await router.settled(AbortSignal.timeout(15_000))
}

async function collect(peers: AsyncIterable<Peer>): Promise<Peer[]> {
  const collected: Peer[] = []
  for await (const peer of peers) collected.push(peer)
  return collected
}

/** The addresses that a lookup finds, in a fixed order, with duplicates. */
async function found({ router }: SwarmMember, name: Key): Promise<string[]> {
  const peers = await within('the end of the lookup', collect(router.lookup(name, AbortSignal.timeout(LOOKUP))))
  return peers.map(({ host, port }) => `${host}:${port}`).sort()
}

/** Waits until a lookup finds exactly these addresses, because a router may remember earlier results for a while. */
async function untilFound(member: SwarmMember, name: Key, addresses: readonly string[]): Promise<void> {
  const isFound = async () => (await found(member, name)).join() === addresses.join()
  await waitFor(`${name} is found at ${addresses.join()}`, isFound, MEMORY)
}

function addressesOf(...members: readonly SwarmMember[]): string[] {
  return members.map(({ address }) => `${address.host}:${address.port}`).sort()
}
