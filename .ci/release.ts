/**
 * Makes everything that a release has, in dist/release:
 *
 *   npm run release [-- --debs DIR]
 *
 *     swarmirror-VERSION-image.tar           the container image for both processors, an OCI image layout
 *     swarmirror-VERSION-linux-ARCH.tar.gz   the executable
 *     swarmirror-VERSION-npm.tgz             the package of npm
 *     swarmirror-VERSION-chart.tgz           the Helm chart
 *     swarmirror-VERSION-ARCH.spdx.json      what is in image and executable
 *     RELEASE.md                             what CHANGELOG.md says of this version
 *     SHA256SUMS
 *
 * The same commit with the same packages of Debian (`--debs`, see k8s/image/make.ts) gives the same bytes. It needs what these need:
 * `npm run image`, `npm run package` and `npm run chart`. It publishes nothing: .github/workflows/release.yaml does.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { pipeline } from 'node:stream/promises'
import { parseArgs } from 'node:util'
import { notesOf } from './release-notes.ts'

const ROOT = join(import.meta.dirname, '..')
const RELEASE = join(ROOT, 'dist', 'release')
const PROCESSORS = ['amd64', 'arm64']

async function run(command: string, ...args: readonly string[]): Promise<void> {
  process.stdout.write(`${[command, ...args].join(' ')}\n`)
  // What it tells of its progress is shown as it comes.
  const [code] = await once(spawn(command, args, { cwd: ROOT, stdio: 'inherit' }), 'close')
  if (code !== 0) throw new Error(`${command} ended with ${code}`)
}

async function sumOf(file: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(file), hash)
  return hash.digest('hex')
}

const { values } = parseArgs({ options: { debs: { type: 'string' } } })
const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { readonly version: string }
// First, because it is quick to fail.
const notes = notesOf(await readFile(join(ROOT, 'CHANGELOG.md'), 'utf8'), version)
await rm(RELEASE, { recursive: true, force: true })
await mkdir(RELEASE, { recursive: true })
const work = await mkdtemp(join(tmpdir(), 'swarmirror-release-'))
try {
  const place = (from: string, suffix: string) =>
    copyFile(join(work, from), join(RELEASE, `swarmirror-${version}-${suffix}`))
  const debs = values.debs === undefined ? [] : ['--debs', values.debs]
  const processors = PROCESSORS.flatMap((processor) => ['--arch', processor])
  await run('node', 'k8s/image/make.ts', ...processors, ...debs, '--output', join(work, 'image'))
  await place('image/swarmirror.tar', 'image.tar')
  for (const processor of PROCESSORS) {
    await place(`image/executable-${processor}.tar.gz`, `linux-${processor}.tar.gz`)
    await place(`image/sbom-${processor}.spdx.json`, `${processor}.spdx.json`)
  }
  await run('bun', '.ci/build.ts', join(work, 'package'), '--package')
  await run('npm', 'pack', join(work, 'package'), '--pack-destination', work)
  await place(`swarmirror-${version}.tgz`, 'npm.tgz')
  await run('node', 'k8s/helm.ts', 'package', join(work, 'chart'))
  await place(`chart/swarmirror-${version}.tgz`, 'chart.tgz')
} finally {
  await rm(work, { recursive: true, force: true })
}
await writeFile(join(RELEASE, 'RELEASE.md'), notes)
const names = (await readdir(RELEASE)).sort()
const sums = await Promise.all(names.map(async (name) => `${await sumOf(join(RELEASE, name))}  ${name}\n`))
await writeFile(join(RELEASE, 'SHA256SUMS'), sums.join(''))
process.stdout.write(sums.join(''))
