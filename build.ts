/**
 * Makes what is installed from, in dist/ or the directory given (`npm run build [-- DIR]`):
 *
 *   swarmirror.mjs       everything as one ESM file, for Node, Deno and Bun
 *   sodium-native.node   libsodium for this platform, which that file loads from beside itself
 *   swarmirror           the same as one executable with Bun and libsodium inside
 *
 * Runs on Bun, whose bundler makes the executable.
 */
import { copyFile, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { build as esbuild, type Plugin } from 'esbuild'

/** The part of Bun's bundler that is used here. Its plugins have the shape of esbuild's. */
declare const Bun: {
  build(options: {
    readonly entrypoints: readonly string[]
    readonly compile: { readonly outfile: string }
    readonly minify: { readonly syntax: boolean; readonly whitespace: boolean }
    readonly plugins: readonly Plugin[]
  }): Promise<{ readonly success: boolean; readonly logs: readonly Error[] }>
}

const ROOT = import.meta.dirname
const DIST = process.argv[2] ?? join(ROOT, 'dist')
const ENTRY = join(ROOT, 'main.ts')
const SODIUM = join(
  ROOT,
  'node_modules',
  'sodium-native',
  'prebuilds',
  `${process.platform}-${process.arch}`,
  'sodium-native.node',
)

/**
 * Replaces the two addons: the loader of sodium-native, which searches folders that a bundle has not, by a literal
 * `require` of the file; and udx-native, which needs libuv, by the UDX of our own.
 *
 * @param sodium what to require
 */
function addons(sodium: string): Plugin {
  return {
    name: 'addons',
    setup({ onLoad }) {
      onLoad({ filter: /[\\/]sodium-native[\\/]binding\.js$/ }, () => ({
        contents: `module.exports = require(${JSON.stringify(sodium)})`,
        loader: 'js',
      }))
      onLoad({ filter: /[\\/]udx-native[\\/]lib[\\/]udx\.js$/ }, () => ({
        contents: `module.exports = require(${JSON.stringify(join(ROOT, 'lib', 'udx', 'index.ts'))}).UDX`,
        loader: 'js',
      }))
    },
  }
}

await rm(DIST, { recursive: true, force: true })
await mkdir(DIST, { recursive: true })
await copyFile(SODIUM, join(DIST, 'sodium-native.node'))
await esbuild({
  entryPoints: [ENTRY],
  outfile: join(DIST, 'swarmirror.mjs'),
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node24',
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: 'eof',
  external: ['./sodium-native.node'],
  // What is CommonJS in the bundle asks for node: modules and the addon with a require that ESM has not.
  banner: {
    js: "import { createRequire as createRequireHere } from 'node:module'; const require = createRequireHere(import.meta.url);",
  },
  plugins: [addons('./sodium-native.node')],
  logLevel: 'warning',
})
const executable = await Bun.build({
  entrypoints: [ENTRY],
  compile: { outfile: join(DIST, 'swarmirror') },
  minify: { syntax: true, whitespace: true },
  plugins: [addons(SODIUM)],
})
if (!executable.success) throw new AggregateError(executable.logs, 'the executable cannot be built')
