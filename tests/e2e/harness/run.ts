import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runSync } from './command.ts'

/** The prefix of every name that the harness gives to something outside its process. */
const PREFIX = 'swe2e'

/** The directory for the files of all runs. Short, since a Unix socket's path has at most 107 bytes. */
const BASE = join(tmpdir(), PREFIX)

/** Where `ip netns` keeps its namespaces. */
const NAMESPACES = '/run/netns'

/** Where `ip netns exec` looks for files to mount over those of /etc: below a directory of the namespace's name. */
const NAMESPACE_FILES = '/etc/netns'

/** How often to kill the processes of a namespace and look for more before that counts as a failure. */
const KILL_ROUNDS = 100

/**
 * One cluster's claim to names and files. Everything that the harness makes carries the claim's id, and lives in a network
 * namespace or below a directory of that name, so that {@link destroy} finds it from the id alone.
 */
export interface Run {
  /** `swe2e-<pid>-<start time of that process>-<number>`: says who owns it, even after the owner is gone. */
  readonly id: string
  readonly directory: string
  /** Destroys everything of this run, at once and synchronously. */
  destroy(): void
}

let runs = 0

/**
 * Claims a name and a directory, and makes sure that {@link destroy} runs however this process ends, except by SIGKILL: the
 * next run's {@link sweep} removes what that leaves.
 */
export function createRun(): Run {
  runs += 1
  const id = `${PREFIX}-${process.pid}-${startTimeOf(process.pid)}-${runs}`
  const directory = join(BASE, id)
  mkdirSync(directory, { recursive: true, mode: 0o711 })
  const atExit = () => destroy(id)
  const onSignal = (signal: NodeJS.Signals) => {
    destroy(id)
    process.kill(process.pid, signal)
  }
  process.once('exit', atExit)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, onSignal)
  return {
    id,
    directory,
    destroy() {
      destroy(id)
      process.off('exit', atExit)
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(signal, onSignal)
    },
  }
}

/** Destroys the runs whose owner is no longer alive, and returns their ids. */
export function sweep(): string[] {
  const names = [NAMESPACES, NAMESPACE_FILES, BASE].flatMap(named)
  const ids = new Set(names.flatMap((name) => name.match(/^swe2e-\d+-\d+-\d+/)?.[0] ?? []))
  const dead = [...ids].filter((id) => {
    const [, pid, startTime] = id.split('-')
    return startTimeOf(Number(pid)) !== startTime
  })
  for (const id of dead) destroy(id)
  return dead
}

/**
 * Kills every process in the run's namespaces, and removes mounts, namespaces (and with them their links) and files. Another
 * process may do the same to a run that is dead.
 *
 * @throws {Error} when something of the run still exists afterwards
 */
function destroy(id: string): void {
  const problems: string[] = []
  for (const name of named(NAMESPACES).filter((name) => name.startsWith(`${id}-`))) {
    if (!killAllIn(name)) problems.push(`processes in ${name} do not end: ${pidsIn(name).join(', ')}`)
    const removed = runSync('ip', ['netns', 'delete', name])
    if (!removed.ok && named(NAMESPACES).includes(name)) problems.push(removed.stderr)
  }
  for (const name of named(NAMESPACE_FILES).filter((name) => name.startsWith(`${id}-`))) {
    rmSync(namespaceFiles(name), { recursive: true, force: true })
  }
  const directory = join(BASE, id)
  for (const mount of mountsBelow(directory)) {
    const unmounted = runSync('umount', ['--lazy', mount])
    if (!unmounted.ok && mountsBelow(directory).includes(mount)) problems.push(unmounted.stderr)
  }
  rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
  if (problems.length > 0) throw new Error(`could not clean up ${id}:\n${problems.join('\n')}`)
}

/** Kills until no process is left, since a process may start another while it is killed. */
function killAllIn(namespace: string): boolean {
  for (let round = 0; round < KILL_ROUNDS; round += 1) {
    const pids = pidsIn(namespace)
    if (pids.length === 0) return true
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
      }
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20)
  }
  return pidsIn(namespace).length === 0
}

/** The processes of a namespace that still run: one that was killed stays a zombie until this process waits for it. */
function pidsIn(namespace: string): number[] {
  const listed = runSync('ip', ['netns', 'pids', namespace]).stdout.split('\n').filter(Boolean).map(Number)
  return listed.filter((pid) => stateOf(pid) !== undefined && stateOf(pid) !== 'Z')
}

/** The directory whose files replace those of /etc in a namespace. */
export function namespaceFiles(namespace: string): string {
  return join(NAMESPACE_FILES, namespace)
}

/** The entries of a directory that the harness made, in any run. */
function named(directory: string): string[] {
  try {
    return readdirSync(directory).filter((name) => name.startsWith(`${PREFIX}-`))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** Mount points below a directory, the innermost first. */
function mountsBelow(directory: string): string[] {
  const points = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
  return points.filter((point) => point.startsWith(`${directory}/`)).reverse()
}

/** The state letter of a process as in proc(5), such as `S`, `T` (stopped) or `Z`; `undefined` if there is no such process. */
export function stateOf(pid: number): string | undefined {
  return statOf(pid)?.[0]
}

/** The start time of a process in clock ticks since boot, which tells it from a later one with the same pid. */
function startTimeOf(pid: number): string | undefined {
  return statOf(pid)?.[19]
}

/** The fields of /proc/<pid>/stat from the third (the state) on: those before hold a name that may contain spaces. */
function statOf(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return text.slice(text.lastIndexOf(')') + 2).split(' ')
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw error
  }
}
