/** Asks for each URL until it gets content, and prints when that was, in milliseconds since 1970. */
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'

/** Milliseconds between two questions for one URL. */
const PAUSE = 20

async function untilServed(url: string): Promise<number> {
  for (;;) {
    const response = await fetch(url)
    await response.arrayBuffer()
    if (response.status === 200) return Date.now()
    await delay(PAUSE)
  }
}

process.stdout.write(JSON.stringify(await Promise.all(process.argv.slice(2).map(untilServed))))
