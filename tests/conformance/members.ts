import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Key } from '../../lib/oci/key.ts'
import { MAX_MESSAGE, type Members } from '../../lib/swarm/members.ts'
import type { Peer, Router } from '../../lib/swarm/router.ts'
import { waitFor, within } from '../fixtures/wait.ts'

/** A node of a swarm under test, and the address at which others find it. */
export interface SwarmMember {
  readonly router: Router
  readonly members: Members
  readonly address: Peer
  close(): Promise<void>
}

/** A swarm that nodes join one by one; `join` waits until lookups work. It is closed once, even after a failure. */
export interface SwarmFixture {
  join(): Promise<SwarmMember>
  close(): Promise<void>
}

const key = (name: string | number): Key => `registry.example/team/${name}:1` as Key
const never = new AbortController().signal
const bytes = (text: string) => new TextEncoder().encode(text)
const textOf = (answer: Uint8Array | undefined) => answer && new TextDecoder().decode(answer)

/** Runs `body` with `count` members that all know each other. */
export async function withSwarmOf(
  count: number,
  makeFixture: () => Promise<SwarmFixture>,
  body: (...members: SwarmMember[]) => Promise<void>,
): Promise<void> {
  const fixture = await makeFixture()
  try {
    const joined: SwarmMember[] = []
    while (joined.length < count) joined.push(await fixture.join())
    await waitFor('all know each other', () => joined.every(({ members }) => members.size >= count))
    await body(...joined)
  } finally {
    await within('the end of the fixture', fixture.close())
  }
}

/**
 * The suite that every Members must pass.
 *
 * @param name the name of the implementation, with which the names of the tests begin
 * @param makeFixture called for each test
 */
export function membersConformance(name: string, makeFixture: () => Promise<SwarmFixture>): void {
  const check = (what: string, count: number, body: (...members: SwarmMember[]) => Promise<void>) =>
    test(`${name}: ${what}`, () => withSwarmOf(count, makeFixture, body))

  check('a node that is alone is the only member, and the closest to every key', 1, async ({ members, address }) => {
    assert.equal(members.size, 1)
    assert.deepEqual(members.closest(key('a'), 3), [address])
    assert.deepEqual(members.closest(key('a'), 0), [])
  })

  check(
    'closest gives the same members on all nodes, themselves included, and others for other keys',
    4,
    async (...all) => {
      const addresses = all.map(({ address }) => address)
      const firsts = new Set<string>()
      for (let at = 0; at < 40; at++) {
        const expected = all[0]?.members.closest(key(at), 2) ?? []
        assert.equal(expected.length, 2)
        for (const { members } of all) {
          assert.deepEqual(members.closest(key(at), 2), expected)
          assert.deepEqual(members.closest(key(at), 1), expected.slice(0, 1))
          const four = members.closest(key(at), 9)
          assert.deepEqual(four.slice(0, 2), expected)
          assert.deepEqual(sorted(four), sorted(addresses))
        }
        firsts.add(JSON.stringify(expected[0]))
      }
      // One member is the closest one for at most half of the key space.
      assert.ok(firsts.size >= 2, `${firsts.size} members are the closest to some key`)
    },
  )

  check('ask takes a question to the member that is asked, and its answer back', 3, async (a, b, c) => {
    for (const { members, address } of [a, b, c]) {
      members.answer((question, from) => bytes(`${textOf(question)} from ${from.port} at ${address.port}`))
    }
    for (const [asker, asked] of [
      [a, b],
      [b, a],
      [c, b],
      [b, b],
    ] as const) {
      const answer = await asker.members.ask(asked.address, bytes('hello'), never)
      assert.equal(textOf(answer), `hello from ${asker.address.port} at ${asked.address.port}`)
    }
  })

  check('ask takes any bytes up to the limit there and back, and no more', 2, async (a, b) => {
    b.members.answer((question) => question)
    for (const length of [0, 1, MAX_MESSAGE]) {
      const question = Uint8Array.from({ length }, (_, at) => at * 7)
      assert.deepEqual(new Uint8Array((await a.members.ask(b.address, question, never)) ?? []), question)
    }
    await assert.rejects(a.members.ask(b.address, new Uint8Array(MAX_MESSAGE + 1), never), RangeError)
  })

  check('ask keeps the answers to many questions apart', 2, async (a, b) => {
    b.members.answer((question) => bytes(`re: ${textOf(question)}`))
    const questions = Array.from({ length: 100 }, (_, at) => `question ${at}`)
    const answers = await Promise.all(questions.map((question) => a.members.ask(b.address, bytes(question), never)))
    assert.deepEqual(
      answers.map(textOf),
      questions.map((question) => `re: ${question}`),
    )
  })

  check('ask gives nothing where there is no answer', 2, async (a, b) => {
    const ask = (peer: Peer = b.address) => within('the end of the question', a.members.ask(peer, bytes('?'), never))
    assert.equal(await ask(), undefined, 'no handler')
    b.members.answer(() => undefined)
    assert.equal(await ask(), undefined, 'a handler that says nothing')
    b.members.answer(() => {
      throw new Error('a handler that fails')
    })
    assert.equal(await ask(), undefined, 'a handler that fails')
    b.members.answer(() => new Uint8Array(MAX_MESSAGE + 1))
    assert.equal(await ask(), undefined, 'an answer that is too long')
    b.members.answer(() => bytes('yes'))
    assert.equal(textOf(await ask()), 'yes')
    await b.close()
    assert.equal(await ask(), undefined, 'a member that is gone')
  })

  check('ask ends when its signal aborts', 2, async (a, b) => {
    b.members.answer(() => undefined)
    const stop = new AbortController()
    const asked = a.members.ask(b.address, bytes('?'), stop.signal)
    stop.abort()
    assert.equal(await within('the aborted question', asked), undefined)
    b.members.answer(() => assert.fail('nothing is asked for a signal that is aborted already'))
    assert.equal(await a.members.ask(b.address, bytes('?'), stop.signal), undefined)
  })

  check('a node that is closed asks nobody, and leaves the members of the others', 3, async (a, b, c) => {
    a.members.answer(() => bytes('yes'))
    const asked = b.members.ask(c.address, bytes('?'), never)
    await b.close()
    assert.equal(await within('the question of the closed node', asked), undefined)
    assert.equal(await within('a question after that', b.members.ask(a.address, bytes('?'), never)), undefined)
    assert.equal(textOf(await c.members.ask(a.address, bytes('?'), never)), 'yes')
  })
}

function sorted(peers: readonly Peer[]): string[] {
  return peers.map(({ host, port }) => `${host}:${port}`).sort()
}
