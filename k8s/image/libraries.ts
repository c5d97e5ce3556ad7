import { execFile } from 'node:child_process'
import { mkdir, readdir, realpath } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import type { Architecture } from './architecture.ts'

const run = promisify(execFile)

/** A Debian package whose files go into the image. */
export interface DebianPackage {
  readonly name: string
  readonly version: string
  /** Its control file, from which scanners know the package. */
  readonly control: string
}

/** A file and its path in the image. */
export interface PlacedFile {
  readonly from: string
  readonly to: string
}

/**
 * The packages of Debian 13 with the libraries to which the executable and libsodium are linked, and the names of these
 * libraries.
 */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  // For the release's name and the texts of licenses.
  'base-files': [],
  // For the licenses of GCC's libraries.
  'gcc-14-base': [],
  libc6: ['libc.so.6', 'libdl.so.2', 'libm.so.6', 'libpthread.so.0'],
  'libgcc-s1': ['libgcc_s.so.1'],
  'libstdc++6': ['libstdc++.so.6'],
}

/** The notices of the libraries, the licenses that they name, and the release, for scanners. */
const TEXTS = [
  '/usr/share/doc/gcc-14-base/copyright',
  '/usr/share/doc/libc6/copyright',
  ...['GPL-2', 'GPL-3', 'LGPL-2', 'LGPL-2.1', 'LGPL-3'].map((name) => `/usr/share/common-licenses/${name}`),
  '/usr/lib/os-release',
]

/**
 * Downloads the packages for any architecture from this machine's Debian release. apt works in the given directory and checks
 * the signatures; the state of the machine does not change.
 */
export async function downloadPackages({ name }: Architecture, dir: string): Promise<void> {
  const state = resolve(dir, 'apt')
  for (const path of ['lists/partial', 'cache/archives/partial']) await mkdir(join(state, path), { recursive: true })
  const options = Object.entries({
    'APT::Architecture': name,
    'APT::Architectures': name,
    // apt runs as root, because the user to which it would switch cannot write in root's directory.
    'APT::Sandbox::User': 'root',
    'Dir::State::Lists': join(state, 'lists'),
    'Dir::State::status': '/dev/null',
    'Dir::Cache': join(state, 'cache'),
  }).flatMap(([option, value]) => ['-o', `${option}=${value}`])
  await run('apt-get', [...options, '-qq', 'update'])
  await run('apt-get', [...options, '-qq', 'download', ...Object.keys(PACKAGES)], { cwd: dir })
}

/**
 * Unpacks the packages of a directory.
 *
 * @throws {Error} if a package is missing or is there twice
 */
export async function unpackPackages(architecture: Architecture, dir: string, to: string): Promise<DebianPackage[]> {
  const found: (DebianPackage & { readonly file: string })[] = []
  for (const file of (await readdir(dir)).filter((name) => name.endsWith('.deb')).map((name) => join(dir, name))) {
    const fields = ['Package', 'Version', 'Architecture']
    const { stdout: control } = await run('dpkg-deb', ['--field', file])
    const [name = '', version = '', of] = fields.map((field) => new RegExp(`^${field}: (.*)$`, 'm').exec(control)?.[1])
    if (Object.hasOwn(PACKAGES, name) && of === architecture.name) found.push({ name, version, control, file })
  }
  const wanted = Object.keys(PACKAGES).sort()
  const names = found.map(({ name }) => name).sort()
  if (names.join() !== wanted.join()) {
    throw new Error(
      `${dir}: expected an ${architecture.name} package each of ${wanted.join(', ')}; found ${names.join(', ')}`,
    )
  }
  for (const { file } of found) await run('dpkg-deb', ['--extract', file, to])
  return found
    .map(({ name, version, control }) => ({ name, version, control }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** The files of the unpacked packages for the image: the loader, the libraries, their licenses and the release's name. */
export async function libraryFiles({ triplet, loader }: Architecture, unpacked: string): Promise<PlacedFile[]> {
  const libraries = Object.values(PACKAGES).flatMap((names) => names.map((name) => `/usr/lib/${triplet}/${name}`))
  const loaded = { from: `/usr/lib/${triplet}/${loader.slice(loader.lastIndexOf('/') + 1)}`, to: loader }
  const files = [loaded, ...[...libraries, ...TEXTS].map((path) => ({ from: path, to: path }))]
  // Some are links to files with the library's full version in their name.
  return await Promise.all(files.map(async ({ from, to }) => ({ from: await realpath(join(unpacked, from)), to })))
}
