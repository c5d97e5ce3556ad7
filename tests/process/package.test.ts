/**
 * The package of `npm run package` runs from an empty folder with npx, bunx and deno, from a registry that has nothing else.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { runtimeName } from '../../lib/platform/runtime.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const BIN = join(ROOT, 'node_modules', '.bin')
/** Milliseconds that a command may take on a loaded machine. */
const LIMIT = 60_000

const skip = runtimeName === 'node' ? false : 'starts all three runtimes by itself, so it runs under Node only'

describe('npm run package', { skip }, () => {
  let dir = ''
  let tarball: Buffer = Buffer.alloc(0)
  let manifest: { readonly version: string; readonly [field: string]: unknown }
  const registry = createServer(({ url }, response) => {
    const { version } = manifest
    const dist = { tarball: `${registryUrl()}/swarmirror.tgz`, integrity: integrityOf(tarball) }
    const told = { 'dist-tags': { latest: version }, versions: { [version]: { ...manifest, dist } } }
    if (url === '/swarmirror.tgz') response.end(tarball)
    else if (url === '/swarmirror') response.end(JSON.stringify({ name: 'swarmirror', ...told }))
    else response.writeHead(404).end()
  })
  const registryUrl = () => `http://127.0.0.1:${(registry.address() as AddressInfo).port}`

  async function build(name: string, variables: Readonly<Record<string, string>> = {}): Promise<string> {
    const folder = join(dir, name)
    const env = { ...process.env, ...variables }
    await promisify(execFile)(join(BIN, 'bun'), [join(ROOT, '.ci', 'build.ts'), folder, '--package'], { env })
    return folder
  }

  /** Packs it anew, like the script of package.json. */
  async function pack(name: string): Promise<Buffer> {
    const folder = await build(name)
    const { stdout } = await run('npm', ['pack', '--silent', folder, '--pack-destination', dir], dir)
    return await readFile(join(dir, stdout.trim()))
  }

  /** Runs a command in a folder, with the repository's runtimes and nothing else of this machine. */
  async function run(command: string, args: readonly string[], cwd: string) {
    const env = {
      PATH: `${join(dir, 'bin')}:${process.env.PATH}`,
      HOME: join(dir, 'home'),
      DENO_DIR: join(dir, 'deno'),
      TMPDIR: join(dir, 'home'),
      NPM_CONFIG_REGISTRY: registryUrl(),
      npm_config_update_notifier: 'false',
    }
    return await promisify(execFile)(command, args, { cwd, env, timeout: LIMIT })
  }

  async function emptyFolder(): Promise<string> {
    return await mkdtemp(join(dir, 'empty-'))
  }

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'swarmirror-package-'))
    await mkdir(join(dir, 'bin'))
    await mkdir(join(dir, 'home'))
    for (const name of ['node', 'bun', 'bunx', 'deno']) await symlink(join(BIN, name), join(dir, 'bin', name))
    await new Promise<void>((resolve) => registry.listen(0, '127.0.0.1', resolve))
    tarball = await pack('package')
    manifest = JSON.parse(await readFile(join(dir, 'package', 'package.json'), 'utf8'))
  })
  after(async () => {
    await new Promise((resolve) => registry.close(resolve))
    await rm(dir, { recursive: true, force: true })
  })

  it('packs the same bytes each time', async () => {
    assert.ok(tarball.equals(await pack('again')))
  })

  it('needs no other package and runs no script when it is installed', () => {
    const asks = ['dependencies', 'optionalDependencies', 'peerDependencies', 'scripts']
    assert.deepEqual(
      asks.filter((field) => field in manifest),
      [],
    )
  })

  it('names the repository that GitHub builds it from, because npm refuses provenance without it', async () => {
    const github = { GITHUB_SERVER_URL: 'https://github.com', GITHUB_REPOSITORY: 'owner/swarmirror' }
    const { repository } = JSON.parse(await readFile(join(await build('github', github), 'package.json'), 'utf8'))
    assert.deepEqual(repository, { type: 'git', url: 'git+https://github.com/owner/swarmirror.git' })
    assert.match(await readFile(join(ROOT, '.github', 'workflows', 'release.yaml'), 'utf8'), /npm publish --provenance/)
  })

  const ways: readonly (readonly [string, string, readonly string[]])[] = [
    ['npx', 'npx', ['--yes', 'swarmirror', 'demo']],
    ['bunx', 'bunx', ['--bun', 'swarmirror', 'demo']],
    ['deno', 'deno', ['run', '-A', 'npm:swarmirror', 'demo']],
  ]
  for (const [name, command, args] of ways) {
    it(`shows the main job from an empty folder: ${name}`, async () => {
      const { stdout } = await run(command, args, await emptyFolder())
      assert.match(stdout, /pulled 6 blobs, .* through B; every digest is right\n.*stopped both mirrors\n$/)
    })
  }

  it('says on an old Node which version it needs', async () => {
    const older = 'data:text/javascript,delete globalThis.AsyncDisposableStack'
    const started = run('node', ['--import', older, join(dir, 'package', 'swarmirror.mjs'), 'version'], dir)
    const { code, stderr } = await started.then(
      () => assert.fail('it ran'),
      (error: { code: number; stderr: string }) => error,
    )
    assert.deepEqual([code, stderr], [78, `swarmirror needs Node 24 or later, and this is ${process.version}\n`])
  })
})

function integrityOf(bytes: Buffer): string {
  return `sha512-${createHash('sha512').update(bytes).digest('base64')}`
}
