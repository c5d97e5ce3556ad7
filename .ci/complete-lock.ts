/**
 * Adds to package-lock.json the optional packages of other platforms that a registry with only some of them (404 for the
 * rest) leaves out, without which `npm ci` refuses the lock file: `npm run lock` after each change of dependencies.
 * Their version is what the package that wants them says, their platform is in their name. Those that the registry has after
 * all get their integrity, without which npm would take whatever comes under that name.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'

interface Entry {
  version?: string
  integrity?: string
  dev?: boolean
  optional?: boolean
  cpu?: string[]
  os?: string[]
  libc?: string[]
  engines?: Record<string, string>
  optionalDependencies?: Record<string, string>
}

const FILE = new URL('../package-lock.json', import.meta.url)
const PLATFORMS = ['aix', 'android', 'darwin', 'freebsd', 'linux', 'netbsd', 'openbsd', 'openharmony', 'sunos', 'win32']
/** What packages call a processor, and what npm calls it. */
const PROCESSORS: Readonly<Record<string, string>> = { aarch64: 'arm64', armv7: 'arm' }

const lock = JSON.parse(readFileSync(FILE, 'utf8')) as { packages: Record<string, Entry> }
const { packages } = lock
for (const wanting of Object.values(packages)) {
  for (const [name, version] of Object.entries(wanting.optionalDependencies ?? {})) {
    if (packages[`node_modules/${name}`] !== undefined) continue
    const words = (name.split('/')[1] ?? name).split('-')
    const os = words.find((word) => PLATFORMS.includes(word)) ?? (words.includes('windows') ? 'win32' : undefined)
    const cpu = words[words.findIndex((word) => PLATFORMS.includes(word) || word === 'windows') + 1]
    if (os === undefined || cpu === undefined) throw new Error(`the platform of ${name} is not in its name`)
    const libc = words.includes('musl') ? { libc: ['musl'] } : words.includes('glibc') ? { libc: ['glibc'] } : {}
    const dev = wanting.dev === true ? { dev: true } : {}
    packages[`node_modules/${name}`] = {
      version,
      cpu: [PROCESSORS[cpu] ?? cpu],
      ...dev,
      ...libc,
      optional: true,
      os: [os],
    }
  }
}
for (const [path, entry] of Object.entries(packages)) {
  if (path === '' || entry.integrity !== undefined) continue
  const integrity = integrityOf(`${path.replace(/^.*node_modules\//, '')}@${entry.version}`)
  // In the order in which npm writes them.
  if (integrity !== '') packages[path] = { version: entry.version ?? '', integrity, ...entry }
}
lock.packages = Object.fromEntries(Object.entries(packages).sort(([a], [b]) => (a < b ? -1 : 1)))
writeFileSync(FILE, `${JSON.stringify(lock, undefined, 2)}\n`)

/** As the registry tells it; nothing if it has no such package. */
function integrityOf(spec: string): string {
  try {
    return execFileSync('npm', ['view', spec, 'dist.integrity'], { encoding: 'utf8', stdio: 'pipe' }).trim()
  } catch (error) {
    const { stderr = '' } = error as { stderr?: string }
    if (stderr.includes('E404')) return ''
    throw error
  }
}
