/**
 * Makes the container image, without a container engine's daemon:
 *
 *   npm run image -- [--arch amd64|arm64]... [--debs DIR] [--level N] [--output DIR]
 *
 *   --arch    which processors; this machine's by default. Both can be made on either.
 *   --debs    take Debian's packages from DIR, which has those of each processor in DIR/<arch>, instead of downloading them:
 *             for a machine without network, or to make an earlier image again. OUTPUT/debs keeps them.
 *   --level   how well zstd compresses, from 1 to 19 (the default): lower levels are for images that are not kept, as in tests
 *   --output  dist/image by default: `swarmirror.tar` (an OCI image layout), `sbom-<arch>.spdx.json`, `debs/`, and
 *             `executable-<arch>.tar.gz` with the same executable for hosts without containers
 *
 * Needs git, buildah, apt-get and dpkg-deb (Debian 13), and npm for the other processor's Bun. Same commit, same packages,
 * same buildah: same digest. Timestamps are SOURCE_DATE_EPOCH's, or the commit's.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod, copyFile, cp, mkdir, mkdtemp, readdir, readFile, realpath, rm, stat, writeFile } from 'node:fs/promises'
import { arch, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { parseArgs, promisify } from 'node:util'
import type { BundledPackage } from '../../.ci/notices.ts'
import { createProgress } from '../../.ci/progress.ts'
import { ARCHITECTURES, type Architecture } from './architecture.ts'
import { packFiles, writeIndex } from './layout.ts'
import { type DebianPackage, downloadPackages, libraryFiles, unpackPackages } from './libraries.ts'
import { type ImagePackage, makeSbom, npmPurl } from './sbom.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const BIN = join(ROOT, 'node_modules', '.bin')
const SBOM = '/usr/share/swarmirror/sbom.spdx.json'
const DOC = 'usr/share/doc/swarmirror'
/** The files of `.ci/build.ts` that run. */
const PROGRAM = ['swarmirror', 'sodium-native.node']
const tell = createProgress()
const execute = promisify(execFile)
const run = async (command: string, args: readonly string[], cwd = ROOT) =>
  (await execute(command, args, { cwd, maxBuffer: 64 << 20 })).stdout.trim()

interface Manifest {
  readonly version: string
  readonly description: string
  readonly license: string
  readonly optionalDependencies: Readonly<Record<string, string>>
}

const { values } = parseArgs({
  options: {
    arch: { type: 'string', multiple: true },
    debs: { type: 'string' },
    // zstd's highest: 13 % smaller than gzip, and faster to unpack. containerd reads it since 1.5.
    level: { type: 'string', default: '19' },
    output: { type: 'string', default: join(ROOT, 'dist', 'image') },
  },
})
const architectures = (values.arch ?? [arch() === 'x64' ? 'amd64' : arch()]).map((wanted) => {
  const architecture = ARCHITECTURES.find(({ name }) => name === wanted)
  if (architecture === undefined) throw new Error(`--arch ${wanted}: expected amd64 or arm64`)
  return architecture
})
const { output, level } = values
const manifest = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as Manifest
const lock = JSON.parse(await readFile(join(ROOT, 'package-lock.json'), 'utf8')) as {
  readonly packages: Readonly<Record<string, { readonly integrity?: string }>>
}
const bunVersion = manifest.optionalDependencies.bun ?? ''
const SELF: ImagePackage = {
  name: 'swarmirror',
  version: manifest.version,
  license: manifest.license,
  purl: `pkg:npm/swarmirror@${manifest.version}`,
}
const epoch = Number(process.env.SOURCE_DATE_EPOCH ?? (await run('git', ['log', '-1', '--format=%ct'])))
if (!Number.isSafeInteger(epoch)) throw new Error(`SOURCE_DATE_EPOCH=${epoch}: expected seconds since 1970`)

const labels: Readonly<Record<string, string>> = {
  'org.opencontainers.image.title': 'swarmirror',
  'org.opencontainers.image.description': manifest.description,
  'org.opencontainers.image.version': manifest.version,
  'org.opencontainers.image.revision': await run('git', ['rev-parse', 'HEAD']),
  'org.opencontainers.image.created': new Date(epoch * 1000).toISOString().replace(/\.\d+Z$/, 'Z'),
  'org.opencontainers.image.licenses': manifest.license,
}

const work = await mkdtemp(join(tmpdir(), 'swarmirror-image-'))
try {
  const layout = join(work, 'layout')
  await mkdir(output, { recursive: true })
  for (const architecture of architectures) await makeImage(architecture, layout)
  const name = `localhost/swarmirror:${manifest.version}`
  const digest = await writeIndex(layout, name, labels)
  const file = join(output, 'swarmirror.tar')
  await packFiles(layout, ['blobs', 'index.json', 'oci-layout'], file, epoch)
  process.stdout.write(`${file}: ${name}, ${digest}, ${(await stat(file)).size} bytes\n`)
} finally {
  await unprotect(work)
  await rm(work, { recursive: true, force: true })
}

/** Makes the image for one processor and adds it to the layout. */
async function makeImage(architecture: Architecture, layout: string): Promise<void> {
  const { name } = architecture
  const place = join(work, name)
  const root = join(place, 'root')
  tell(`${name}: libraries of Debian`)
  const debian = await placeLibraries(architecture, place, root)
  const built = join(place, 'built')
  tell(`${name}: the executable`)
  await run(join(BIN, 'bun'), ['.ci/build.ts', built, '--image', name, '--bun', await bunOf(architecture, place)])
  for (const file of PROGRAM) await placeFile(join(built, file), join(root, 'opt/swarmirror', file))
  await copyFile(join(ROOT, 'LICENSE'), join(built, 'LICENSE'))
  const executable = [...PROGRAM, 'LICENSE', 'THIRD-PARTY-NOTICES']
  await packFiles(built, executable, join(output, `executable-${name}.tar.gz`), epoch)
  await placeFile(join(ROOT, 'LICENSE'), join(root, DOC, 'LICENSE'))
  await placeFile(join(built, 'THIRD-PARTY-NOTICES'), join(root, DOC, 'THIRD-PARTY-NOTICES'))
  // Scanners look here for packages of images without dpkg's database.
  for (const { name, control } of debian) await placeText(control, join(root, 'var/lib/dpkg/status.d', name))
  // glibc's resolver must read /etc/hosts first, which the kubelet writes.
  await placeText('hosts: files dns\n', join(root, 'etc/nsswitch.conf'))
  const bundled = JSON.parse(await readFile(join(built, 'packages.json'), 'utf8')) as readonly BundledPackage[]
  const sodium = await libsodium(join(built, 'sodium-native.node'))
  const release = await debianRelease(join(root, 'usr/lib/os-release'))
  const parts = [
    ...bundled.map((npm) => ({ ...npm, purl: npmPurl(npm) })),
    sodium,
    ...others(architecture, debian, release),
  ]
  const sbom = makeSbom(SELF, parts, epoch)
  await placeText(sbom, join(root, SBOM))
  await writeFile(join(output, `sbom-${name}.spdx.json`), sbom)
  await protect(root)

  const storage = ['--root', join(place, 'storage'), '--runroot', join(place, 'run'), '--storage-driver', 'vfs']
  const told = Object.entries({ ...labels, 'swarmirror.sbom': SBOM }).flatMap(([key, value]) => [
    '--label',
    `${key}=${value}`,
  ])
  // The history would have a hash over the files with their owner, which differs for each person who makes the image.
  const same = ['--timestamp', String(epoch), '--identity-label=false', '--omit-history', '--isolation', 'chroot']
  const file = join(import.meta.dirname, 'Containerfile')
  tell(`${name}: the image`)
  await run('buildah', [...storage, 'build', ...same, ...told, '--arch', name, '--file', file, '--tag', name, place])
  tell(`${name}: compressing it`)
  const compression = ['--compression-format', 'zstd', '--compression-level', level]
  await run('buildah', [...storage, 'push', '--quiet', ...compression, name, `oci:${layout}:${name}`])
}

async function placeLibraries(architecture: Architecture, place: string, root: string): Promise<DebianPackage[]> {
  const kept = join(output, 'debs', architecture.name)
  const debs = join(place, 'debs')
  await mkdir(debs, { recursive: true })
  if (values.debs === undefined) await downloadPackages(architecture, debs)
  else await cp(join(values.debs, architecture.name), debs, { recursive: true })
  const unpacked = join(place, 'unpacked')
  const packages = await unpackPackages(architecture, debs, unpacked)
  for (const { from, to } of await libraryFiles(architecture, unpacked)) await placeFile(from, join(root, to))
  await rm(kept, { recursive: true, force: true })
  await mkdir(kept, { recursive: true })
  for (const file of await readdir(debs)) if (file.endsWith('.deb')) await copyFile(join(debs, file), join(kept, file))
  return packages
}

/** The Bun for the executable, from this machine's packages or from npm, with the same check as `npm ci`. */
async function bunOf(architecture: Architecture, place: string): Promise<string> {
  if (architecture.name === (arch() === 'x64' ? 'amd64' : arch())) return await realpath(join(BIN, 'bun'))
  const pack = ['pack', '--silent', `${architecture.bun}@${bunVersion}`, '--pack-destination', place]
  const file = join(place, await run('npm', pack))
  const got = `sha512-${createHash('sha512')
    .update(await readFile(file))
    .digest('base64')}`
  const wanted = lock.packages[`node_modules/${architecture.bun}`]?.integrity
  if (got !== wanted) throw new Error(`${architecture.bun}: its integrity is ${got}, package-lock.json has ${wanted}`)
  await run('tar', ['-xzf', file, '-C', place, 'package/bin/bun'])
  return join(place, 'package/bin/bun')
}

/** Reads the version from libsodium itself. */
async function libsodium(file: string): Promise<ImagePackage> {
  const version = /\0(1\.0\.\d+)\0/.exec(await readFile(file, 'latin1'))?.[1]
  if (version === undefined) throw new Error(`${file}: libsodium's version is not in it`)
  return { name: 'libsodium', version, license: 'ISC', purl: `pkg:generic/libsodium@${version}` }
}

async function debianRelease(file: string): Promise<string> {
  const version = /^VERSION_ID="(\d+)"$/m.exec(await readFile(file, 'utf8'))?.[1]
  if (version === undefined) throw new Error(`${file}: no release of Debian`)
  return `debian-${version}`
}

function others({ name: arch, bun }: Architecture, debian: readonly DebianPackage[], release: string): ImagePackage[] {
  const runtime = { name: bun, version: bunVersion, integrity: lock.packages[`node_modules/${bun}`]?.integrity }
  // The licenses of its parts, above all JavaScriptCore.
  const license = 'MIT AND LGPL-2.0-only'
  const libraries = debian.map(({ name, version }) => ({
    name,
    version,
    license: 'NOASSERTION',
    purl: `pkg:deb/debian/${encodeURIComponent(name)}@${encodeURIComponent(version)}?arch=${arch}&distro=${release}`,
  }))
  return [{ ...runtime, license, purl: npmPurl(runtime) }, ...libraries]
}

async function placeFile(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true })
  await copyFile(from, to)
}

async function placeText(text: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true })
  await writeFile(to, text)
}

/** Makes all files read-only for everybody, and programs executable. */
async function protect(root: string): Promise<void> {
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    const runs = entry.isDirectory() || ((await stat(path)).mode & 0o100) !== 0
    await chmod(path, runs ? 0o555 : 0o444)
  }
  await chmod(root, 0o555)
}

/** Makes directories writable again, because only root can delete files in read-only ones. */
async function unprotect(dir: string): Promise<void> {
  await chmod(dir, 0o755)
  for (const entry of await readdir(dir, { withFileTypes: true }))
    if (entry.isDirectory()) await unprotect(join(dir, entry.name))
}
