/** A kept connection that its peer has ended, and a call on it that is aborted at the same moment. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PeerClient } from '../../../lib/peers/client.ts'
import { Connection } from '../../../lib/peers/http1/connection.ts'
import { startRawPeer } from '../../doubles/http-peer.ts'
import { never } from '../../fixtures/layout.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

const CALL = { method: 'GET', path: '/v2/?ns=x', headers: {} } as const
const ANSWER = 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'

/** Runs `use` while every failed exchange calls `failed` before anybody else learns of the failure. */
async function hearing(failed: () => void, use: () => Promise<void>): Promise<void> {
  const { exchange } = Connection.prototype
  Connection.prototype.exchange = function (...args) {
    const answer = exchange.apply(this, args)
    answer.catch(failed)
    return answer
  }
  try {
    await use()
  } finally {
    Connection.prototype.exchange = exchange
  }
}

/** Runs something after some turns of the queue of promises. */
async function afterTurns(turns: number, run: () => void): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await undefined
  run()
}

for (let turns = 0; turns < 8; turns++) {
  test(`PeerClient ends a call that is aborted ${turns} turns after its kept connection was found to be closed`, async () => {
    let asked = 0
    // Answers the first request, closes on the second one, and ignores later ones.
    const peer = await startRawPeer((socket) => {
      socket.on('data', () => {
        asked++
        if (asked === 1) socket.write(ANSWER)
        if (asked === 2) socket.end()
      })
    })
    const client = new PeerClient({ headTimeout: 60_000 })
    try {
      await (await client.call(peer.peer, CALL, never)).body.next()
      await waitFor('the connection is kept', () => client.idle === 1)
      const stop = new AbortController()
      await hearing(
        () => void afterTurns(turns, () => stop.abort()),
        async () => {
          await assert.rejects(within('the end of the call', client.call(peer.peer, CALL, stop.signal), 2_000), {
            name: 'PeerError',
          })
        },
      )
      await waitFor('no connection is left', () => peer.open === 0)
    } finally {
      client.close()
      await peer.close()
    }
  })
}
