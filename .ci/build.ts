/**
 * Makes what is installed from:
 *
 *   bun .ci/build.ts [DIR]    (`npm run build [-- DIR]`) in dist/ or DIR, for this machine:
 *     swarmirror.mjs       everything as one ESM file, for Node, Deno and Bun
 *     sodium-native.node   libsodium, which that file loads from beside itself
 *     swarmirror           the same as one executable with Bun and libsodium inside
 *     THIRD-PARTY-NOTICES  the licenses of what is in these, for whoever passes them on
 *   bun .ci/build.ts --package [DIR]    in dist/package or DIR, made anew, what `npm run package` packs:
 *     package.json         its name, version and program; and on GitHub the repository, as npm asks of a package with provenance
 *     swarmirror.mjs       the program as one ESM file
 *     sodium-native-*.node libsodium for Linux on amd64 and arm64, which that file loads from beside itself
 *     README.md, LICENSE, THIRD-PARTY-NOTICES
 *   bun .ci/build.ts DIR --image ARCH [--bun FILE]    what `npm run image` puts into an image for `amd64` or `arm64`; FILE
 *                             is the Bun of that processor, if it is not this machine's:
 *     swarmirror           one executable with Bun inside
 *     sodium-native.node   libsodium, which the executable loads from beside itself
 *     THIRD-PARTY-NOTICES  as above
 *     packages.json        the packages of npm that are in it, for the SBOM
 *
 * Runs on Bun, whose bundler makes the executables.
 */
import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { build as esbuild, type Plugin } from 'esbuild'
import { bundledPackages, noticesOf } from './notices.ts'
import { createProgress } from './progress.ts'

/** The part of Bun's bundler that is used here. Its plugins have the form of esbuild's. */
declare const Bun: {
  readonly version: string
  build(options: {
    readonly entrypoints: readonly string[]
    readonly compile: {
      readonly outfile: string
      readonly target?: string
      /** Bun for the target, which Bun would download otherwise. */
      readonly executablePath?: string
      readonly autoloadDotenv: boolean
      readonly autoloadBunfig: boolean
    }
    readonly minify: { readonly syntax: boolean; readonly whitespace: boolean }
    readonly bytecode: boolean
    readonly format: 'esm'
    readonly plugins: readonly Plugin[]
  }): Promise<{ readonly success: boolean; readonly logs: readonly Error[] }>
}

const ROOT = dirname(import.meta.dirname)
const ENTRY = join(ROOT, 'main.ts')

/** Node's names of processors, by OCI's names. */
const PROCESSORS: Readonly<Record<string, string>> = { amd64: 'x64', arm64: 'arm64' }

/** The machines for which the npm package has libsodium. */
const PACKAGED = Object.values(PROCESSORS).map((processor) => `linux-${processor}`)

/** The file of sodium-native for a processor. */
function sodiumFile(platform: string): string {
  return join(ROOT, 'node_modules', 'sodium-native', 'prebuilds', platform, 'sodium-native.node')
}

const tell = createProgress()

/** The message for an older Node, on which npx may start the program, in place of a cryptic error. */
const NODE_NEEDED = `if (!('AsyncDisposableStack' in globalThis)) {
  console.error('swarmirror needs Node 24 or later, and this is ' + process.version)
  process.exit(78)
}
`

/** The files of other packages that were bundled. */
const loaded = new Set<string>()

/**
 * Replaces two addons. The loader of sodium-native searches folders that a bundle does not have, so another one knows where the
 * file is. udx-native needs libuv, so our own UDX takes its place.
 *
 * @param loader a CommonJS module that exports libsodium
 */
function addons(loader: string): Plugin {
  return {
    name: 'addons',
    setup({ onLoad }) {
      onLoad({ filter: /[\\/]sodium-native[\\/]binding\.js$/ }, () => ({ contents: loader, loader: 'js' }))
      onLoad({ filter: /[\\/]udx-native[\\/]lib[\\/]udx\.js$/ }, () => ({
        contents: `module.exports = require(${JSON.stringify(join(ROOT, 'lib', 'udx', 'index.ts'))}).UDX`,
        loader: 'js',
      }))
      onLoad({ filter: /[\\/]node_modules[\\/]/ }, ({ path }) => {
        loaded.add(path)
        return undefined
      })
    },
  }
}

/** Puts the file into the bundle or beside it, as the bundler decides. */
const required = (file: string) => `module.exports = require(${JSON.stringify(file)})`

/**
 * Loads the file from inside the executable: Bun unpacks it into a directory for temporary files first. If that is mounted
 * `noexec`, as on hardened hosts, it can only say so.
 */
const unpacked = (file: string) => `try {
  ${required(file)}
} catch (error) {
  if (error.code !== 'ERR_DLOPEN_FAILED') throw error
  process.stderr.write('swarmirror: ' + error.message + '; set BUN_TMPDIR to a directory that only root may write and ' +
    'whose file system is not mounted noexec\\n')
  process.exit(78)
}`

/**
 * Loads the file from beside the executable. An addon inside of it would first be unpacked into /tmp, which an image does not
 * have.
 */
const BESIDE_EXECUTABLE = `process.dlopen(module, require('node:path').join(
  require('node:path').dirname(process.execPath), 'sodium-native.node'))`

/** Loads the file for this machine from beside the program. */
const BESIDE_FILE = `const machine = process.platform + '-' + process.arch
if (!${JSON.stringify(PACKAGED)}.includes(machine)) throw new Error('swarmirror has no libsodium for ' + machine)
const file = './sodium-native-' + machine + '.node'
module.exports = require(file)`

async function makeFile(outfile: string, loader: string, head = ''): Promise<void> {
  tell(outfile)
  await esbuild({
    entryPoints: [ENTRY],
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'eof',
    external: ['./sodium-native.node'],
    // CommonJS code in the bundle gets node: modules and the addon with `require`, which ESM does not have.
    banner: {
      js: `${head}import { createRequire as createRequireHere } from 'node:module'; const require = createRequireHere(import.meta.url);`,
    },
    plugins: [addons(loader)],
    logLevel: 'warning',
  })
}

async function makeExecutable(
  dir: string,
  loader: string,
  target: { readonly target?: string; readonly executablePath?: string } = {},
): Promise<void> {
  tell(join(dir, 'swarmirror'))
  const made = await Bun.build({
    entrypoints: [ENTRY],
    // The program must not read a .env or bunfig.toml of the directory in which it happens to start.
    compile: { outfile: join(dir, 'swarmirror'), autoloadDotenv: false, autoloadBunfig: false, ...target },
    minify: { syntax: true, whitespace: true },
    // Code that is compiled here need not be compiled at every start: a mirror is ready in half the time, and its first
    // requests wait less.
    bytecode: true,
    format: 'esm',
    plugins: [addons(loader)],
  })
  if (!made.success) throw new AggregateError(made.logs, 'the executable cannot be built')
}

/** Makes everything in the npm package except the notices of other packages. It needs no other package. */
async function makePackage(dir: string): Promise<void> {
  const { name, version, description, license, engines } = JSON.parse(
    await readFile(join(ROOT, 'package.json'), 'utf8'),
  )
  const { GITHUB_SERVER_URL: server, GITHUB_REPOSITORY: repository } = process.env
  const manifest = {
    ...{ name, version, description, license, type: 'module', engines },
    ...(server && repository && { repository: { type: 'git', url: `git+${server}/${repository}.git` } }),
    bin: { [name]: 'swarmirror.mjs' },
  }
  await writeFile(join(dir, 'package.json'), `${JSON.stringify(manifest, undefined, 2)}\n`)
  await makeFile(join(dir, 'swarmirror.mjs'), BESIDE_FILE, `#!/usr/bin/env node\n${NODE_NEEDED}`)
  for (const machine of PACKAGED) await copyFile(sodiumFile(machine), join(dir, `sodium-native-${machine}.node`))
  for (const file of ['README.md', 'LICENSE']) await copyFile(join(ROOT, file), join(dir, file))
}

const { values, positionals } = parseArgs({
  options: { image: { type: 'string' }, bun: { type: 'string' }, package: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const dir = positionals[0] ?? join(ROOT, 'dist', ...(values.package ? ['package'] : []))
// The package is all that its directory holds.
if (values.package) await rm(dir, { recursive: true, force: true })
await mkdir(dir, { recursive: true })
// Only what is made anew: the directory may be any, such as /usr/local/bin.
const PRODUCTS = ['swarmirror', 'swarmirror.mjs', 'sodium-native.node', 'THIRD-PARTY-NOTICES']
for (const name of PRODUCTS) await rm(join(dir, name), { force: true })
if (values.package) await makePackage(dir)
else if (values.image === undefined) {
  const sodium = sodiumFile(`${process.platform}-${process.arch}`)
  await copyFile(sodium, join(dir, 'sodium-native.node'))
  await makeFile(join(dir, 'swarmirror.mjs'), required('./sodium-native.node'))
  await makeExecutable(dir, unpacked(sodium))
} else {
  const processor = PROCESSORS[values.image]
  if (processor === undefined)
    throw new Error(`--image ${values.image}: expected ${Object.keys(PROCESSORS).join(' or ')}`)
  await copyFile(sodiumFile(`linux-${processor}`), join(dir, 'sodium-native.node'))
  const bun = values.bun === undefined ? {} : { executablePath: values.bun }
  await makeExecutable(dir, BESIDE_EXECUTABLE, { target: `bun-linux-${processor}`, ...bun })
}
tell(join(dir, 'THIRD-PARTY-NOTICES'))
const packages = await bundledPackages(ROOT, loaded)
await writeFile(join(dir, 'THIRD-PARTY-NOTICES'), await noticesOf(ROOT, packages, loaded, Bun.version))
if (values.image !== undefined) await writeFile(join(dir, 'packages.json'), JSON.stringify(packages))
tell('done')
