/** What of others is in a bundle, and the notices of copyright and the licenses that have to go with it. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** A package of npm of which something is in a bundle. */
export interface BundledPackage {
  readonly name: string
  readonly version: string
  /** As SPDX writes it. */
  readonly license: string
  /** As package-lock.json has it. */
  readonly integrity?: string | undefined
}

/** What is not a package of npm, but inside of one. */
const LIBSODIUM = `libsodium, inside of sodium-native (ISC)

Copyright (c) Frank Denis <j at pureftpd dot org>, from 2013 on

Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted,
provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED
WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR
CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF
CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
`

const bun = (version: string) => `Bun ${version}, in the executable only (MIT)

It is linked to JavaScriptCore (LGPL-2) and to libraries under other licenses. Which these are, and how to link it to a
changed JavaScriptCore, says https://github.com/oven-sh/bun/blob/bun-v${version}/LICENSE.md
`

const RULE = `\n${'='.repeat(80)}\n\n`

/** The packages that files are from, by their names. */
export async function bundledPackages(root: string, files: Iterable<string>): Promise<readonly BundledPackage[]> {
  const lock = JSON.parse(await readFile(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Readonly<Record<string, { readonly integrity?: string }>>
  }
  const names = [...new Set([...files].map(packageOf))].filter((name) => name !== undefined).sort()
  return await Promise.all(
    names.map(async (name) => {
      const { version, license } = JSON.parse(await readFile(join(root, 'node_modules', name, 'package.json'), 'utf8'))
      if (typeof license !== 'string') throw new Error(`${name}: its package.json names no license`)
      const integrity = lock.packages[`node_modules/${name}`]?.integrity
      return { name, version, license, integrity }
    }),
  )
}

/** The package of npm that a file is from, and nothing for one of our own. */
function packageOf(file: string): string | undefined {
  return /[\\/]node_modules[\\/]((?:@[^\\/]+[\\/])?[^\\/]+)[\\/](?!.*[\\/]node_modules[\\/])/.exec(file)?.[1]
}

/**
 * One text with the licenses of all that is bundled, each text once.
 *
 * @param files of which the bundle is made: where a package has no file with its license, what stands at their beginnings
 */
export async function noticesOf(
  root: string,
  packages: readonly BundledPackage[],
  files: Iterable<string>,
  bunVersion: string,
): Promise<string> {
  const loaded = [...files]
  const told = await Promise.all(
    packages.map(async ({ name, version, license }) => {
      const own = loaded.filter((file) => packageOf(file) === name)
      const text = (await licenseFiles(join(root, 'node_modules', name))) || (await noticesInside(own))
      return { title: `${name} ${version} (${license})`, text }
    }),
  )
  const parts = [...Map.groupBy(told, ({ text }) => text)].map(
    ([text, of]) => `${of.map(({ title }) => title).join('\n')}\n${text === '' ? '' : `\n${text}\n`}`,
  )
  const apache = `Apache License, Version 2.0, for what says no more than its name\n\n${await readFile(join(root, 'LICENSE'), 'utf8')}`
  const head = 'What is in swarmirror beside its own code, and under which licenses it is.\n'
  return [head, bun(bunVersion), LIBSODIUM, ...parts, apache].join(RULE)
}

async function licenseFiles(dir: string): Promise<string> {
  const names = (await readdir(dir)).filter((name) => /^(licen[cs]e|notice|copying|copyright)/i.test(name)).sort()
  const texts = await Promise.all(names.map((name) => readFile(join(dir, name), 'utf8')))
  return texts.map((text) => text.replaceAll('\r\n', '\n').trim()).join('\n\n')
}

/** The different comments with a copyright at the beginnings of files. */
async function noticesInside(files: readonly string[]): Promise<string> {
  const comments = await Promise.all(
    files.map(
      async (file) => /^(?:"use strict";\s*)?((?:\/\/.*\n)+|\/\*[\s\S]*?\*\/)/.exec(await readFile(file, 'utf8'))?.[1],
    ),
  )
  const notices = comments.filter((comment) => comment !== undefined && /copyright/i.test(comment))
  return [...new Set(notices.map((comment) => comment?.trim()))].sort().join('\n\n')
}
