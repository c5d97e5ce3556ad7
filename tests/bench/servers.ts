import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { createConnection, createServer } from 'node:net'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import type { RuntimeName } from '../../lib/platform/runtime.ts'
import { type MirrorProcess, startMirrorProcess } from '../fixtures/mirror-process.ts'
import { RUNTIMES } from '../fixtures/programs.ts'

/** Milliseconds that a server may take to start. */
const START_TIMEOUT = 60_000

/** Starts a mirror on an OCI image layout, on its own loopback ports. */
export async function startLayoutMirror(
  runtime: RuntimeName,
  layout: string,
  flags: readonly string[] = [],
): Promise<MirrorProcess> {
  const doors = ['--listen', '--peer-listen', '--admin-listen'].flatMap((door) => [door, '127.0.0.1:0'])
  // The registry of these images does not exist.
  const resolve = flags.includes('--resolve') ? [] : ['--resolve', 'swarm']
  const all = ['--store', `oci-layout:${layout}`, '--log-level', 'info', ...resolve, ...doors, ...flags]
  return await startMirrorProcess(RUNTIMES[runtime], all, process.env, AbortSignal.timeout(START_TIMEOUT))
}

/** Runs a script on a runtime: a bare server that prints its address. `ready`: milliseconds until it has. */
export async function startScript(runtime: RuntimeName, script: string, ...args: readonly string[]) {
  // The last word would start the mirror.
  const [program, ...leading] = RUNTIMES[runtime]
  const startedAt = performance.now()
  const child = spawn(program, [...leading.slice(0, -1), script, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  if (child.pid === undefined) throw new Error(`${program} cannot be started`)
  const [line] = await once(child.stdout, 'data')
  const kill = () => void child.kill('SIGKILL')
  return { pid: child.pid, url: String(line).trim(), ready: performance.now() - startedAt, kill }
}

export interface Nginx {
  readonly url: string
  /** The process id of the only worker. */
  readonly pid: number
  stop(): Promise<void>
}

/** Starts nginx with one worker on a directory of files, with sendfile, for comparison with file servers. */
export function startNginx(dir: string, files: string): Promise<Nginx> {
  return startNginxWith(dir, `root ${files};`)
}

/** Starts nginx with one worker as a proxy for another server, for comparison with proxies. */
export function startNginxProxy(dir: string, url: string): Promise<Nginx> {
  return startNginxWith(dir, nginxProxying(url))
}

/** The directives of an nginx location that proxies another server, with as much memory per request as a mirror. */
export function nginxProxying(url: string): string {
  const buffers =
    'proxy_buffer_size 128k; proxy_buffers 4 128k; proxy_busy_buffers_size 256k; proxy_max_temp_file_size 0;'
  return `proxy_pass ${url}; proxy_http_version 1.1; proxy_set_header Connection ""; ${buffers}`
}

/** Writes the configuration of an nginx with one worker, and returns its path. */
export async function configureNginx(dir: string, listen: string, location: string): Promise<string> {
  await mkdir(dir, { recursive: true })
  const configuration = join(dir, 'nginx.conf')
  await writeFile(
    configuration,
    `worker_processes 1; daemon off; user root; pid ${dir}/pid; error_log ${dir}/error.log;
events {}
http { access_log off; sendfile on; tcp_nopush on; server { listen ${listen}; location / { ${location} } } }
`,
  )
  return configuration
}

/** The process id of the only worker of an nginx. */
export function nginxWorker(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim())
}

async function startNginxWith(dir: string, location: string): Promise<Nginx> {
  const port = await freePort()
  const configuration = await configureNginx(dir, `127.0.0.1:${port}`, location)
  const child: ChildProcess = spawn('nginx', ['-c', configuration], { stdio: 'inherit' })
  await untilListening(port)
  return {
    url: `http://127.0.0.1:${port}`,
    pid: nginxWorker(child.pid ?? 0),
    async stop() {
      child.kill('SIGTERM')
      await once(child, 'exit')
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  if (address === null || typeof address === 'string') throw new Error('the server has no port')
  return address.port
}

async function untilListening(port: number): Promise<void> {
  const signal = AbortSignal.timeout(START_TIMEOUT)
  for (;;) {
    const socket = createConnection(port, '127.0.0.1')
    try {
      await once(socket, 'connect', { signal })
      return
    } catch (error) {
      if (signal.aborted) throw error
      await delay(20)
    } finally {
      socket.destroy()
    }
  }
}
