import { randomUUID } from 'node:crypto'
import { readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Namespace } from './namespace.ts'

/** Longest time that a request may take, in seconds, unless the caller says otherwise. */
const MAX_SECONDS = 30

export interface CurlOptions {
  readonly method?: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly headers?: Readonly<Record<string, string>>
  /** Throws the body away: for large ones. */
  readonly discard?: boolean
  readonly maxSeconds?: number
  /** How fast curl takes the body; by default as fast as it comes. */
  readonly bytesPerSecond?: number
}

export interface CurlResult {
  /** curl's exit code: 0 for a complete answer, 18 for a body cut by FIN, 56 for one cut by RST, 28 after `maxSeconds`. */
  readonly exitCode: number
  /** curl's message for an exit code other than 0. */
  readonly error: string
  /** 0 if there was no answer. */
  readonly status: number
  readonly headers: Headers
  /** Empty when discarded. */
  readonly body: Buffer
  /** Bytes of the body that arrived, discarded or not. */
  readonly size: number
  /** From the start to the first byte of the answer, in milliseconds. */
  readonly firstByteMs: number
  readonly totalMs: number
}

/** A request whose answer is still arriving. */
export interface RunningCurl {
  /** How many bytes of the body have arrived so far; unknown for a discarded body. */
  received(): Promise<number>
  readonly result: Promise<CurlResult>
}

/** Asks from inside a namespace. A failed transfer is a result, not an error. */
export function startCurl(
  namespace: Namespace,
  directory: string,
  url: string,
  options: CurlOptions = {},
): RunningCurl {
  const file = join(directory, `curl-${randomUUID()}`)
  return {
    received: async () => (await stat(`${file}.body`)).size,
    result: runCurl(namespace, file, url, options),
  }
}

/**
 * Sends a GET to each of the URLs that a client would send if it had the content already: the answer 304 says that the content is
 * there. One process sends them all. A URL that does not answer has status 0.
 */
export async function conditionalStatuses(namespace: Namespace, urls: readonly string[]): Promise<number[]> {
  const args = ['--silent', '--header', 'If-None-Match: *', '--max-time', String(MAX_SECONDS)]
  args.push('--write-out', '%{http_code}\\n')
  const { stdout } = await namespace.tryExec('curl', [
    ...args,
    ...urls.flatMap((url) => ['--output', '/dev/null', url]),
  ])
  return stdout.trimEnd().split('\n').map(Number)
}

async function runCurl(namespace: Namespace, file: string, url: string, options: CurlOptions): Promise<CurlResult> {
  const { method = 'GET', headers = {}, discard = false, maxSeconds = MAX_SECONDS } = options
  const args = ['--silent', '--show-error', '--path-as-is', '--globoff', '--max-time', String(maxSeconds)]
  args.push('--dump-header', `${file}.headers`, '--output', discard ? '/dev/null' : `${file}.body`)
  args.push(...(method === 'HEAD' ? ['--head'] : ['--request', method]), '--write-out', '%{json}')
  if (options.bytesPerSecond !== undefined) args.push('--limit-rate', String(options.bytesPerSecond))
  args.push(...Object.entries(headers).flatMap(([name, value]) => ['--header', `${name}: ${value}`]))
  try {
    const { stdout } = await namespace.tryExec('curl', [...args, url], { timeoutMs: (maxSeconds + 10) * 1000 })
    const written = JSON.parse(stdout)
    return {
      exitCode: written.exitcode,
      error: written.errormsg ?? '',
      status: written.http_code,
      headers: parseHeaders((await readOrEmpty(`${file}.headers`)).toString('latin1')),
      // For HEAD, curl writes the headers in place of a body.
      body: discard || method === 'HEAD' ? Buffer.alloc(0) : await readOrEmpty(`${file}.body`),
      size: method === 'HEAD' ? 0 : written.size_download,
      firstByteMs: written.time_starttransfer * 1000,
      totalMs: written.time_total * 1000,
    }
  } finally {
    await Promise.all([rm(`${file}.headers`, { force: true }), rm(`${file}.body`, { force: true })])
  }
}

/** The headers of the last answer: the ones before it are interim. */
function parseHeaders(text: string): Headers {
  const last = text.trimEnd().split('\r\n\r\n').at(-1) ?? ''
  const fields = last
    .split('\r\n')
    .slice(1)
    .map((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon), line.slice(colon + 1).trim()] as [string, string]
    })
  return new Headers(fields)
}

/** curl makes no file when there was nothing to write. */
async function readOrEmpty(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return Buffer.alloc(0)
    throw error
  }
}
