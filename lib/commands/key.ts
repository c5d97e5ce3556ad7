import { randomBytes } from 'node:crypto'
import type { Command } from './command.ts'

/** Bytes of a swarm key. */
const KEY_SIZE = 32

export const key: Command = {
  name: 'key',
  summary: 'print a fresh swarm key',
  async run({ print }) {
    print(`${randomBytes(KEY_SIZE).toString('base64url')}\n`)
  },
}
