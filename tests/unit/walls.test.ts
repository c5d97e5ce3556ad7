/** The walls of the house: which room may import which, and which packages stay inside one room. */
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { drawRooms } from '../../.ci/rooms.ts'
import { ROOMS } from './rooms.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** Packages (by name or its start) and generated code that only these files may import. */
const BEHIND: readonly { readonly what: RegExp; readonly files: RegExp }[] = [
  { what: /^(?:hyperswarm|hyperdht)(?:\/|$)/, files: /^lib\/swarm\/hyperswarm\.ts$/ },
  { what: /^toml-eslint-parser$/, files: /^lib\/toml\/toml\.ts$/ },
  { what: /^hono(?:\/|$)/, files: /^lib\/(?:http|page)\// },
  { what: /^@(?:bufbuild|connectrpc)\/|_pb\.ts$/, files: /^lib\/containerd\/client\// },
]

const EXPORTED = /^export (?:abstract |async )*(?:function\*?|class|const|let|interface|type) (\w+)/gm

interface Import {
  readonly from: string
  /** A path from the root of the tree, or the name of a package. */
  readonly to: string
}

const FILES = ['main.ts', ...globSync('lib/**/*.ts', { cwd: ROOT })].filter((file) => !file.endsWith('.d.ts')).sort()
const IMPORTS = FILES.flatMap(importsOf)

function importsOf(file: string): Import[] {
  const text = readFileSync(join(ROOT, file), 'utf8')
  const found = text.matchAll(/^(?:import|export)\b[^'"`]*?from '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gm)
  return [...found].map(([, from, bare, dynamic]) => {
    const name = from ?? bare ?? dynamic ?? ''
    return { from: file, to: name.startsWith('.') ? normalize(join(dirname(file), name)) : name }
  })
}

/** The room of one of our files; nothing for packages and for data beside the code. */
function roomOf(path: string): string | undefined {
  if (path === 'main.ts') return 'main'
  if (path.startsWith('proto/')) return 'proto'
  return /^lib\/([^/]+)\//.exec(path)?.[1]
}

describe('the walls of the house', () => {
  it('let each room import only what the table says', () => {
    const wrong = IMPORTS.filter(({ from, to }) => {
      const [here, there] = [roomOf(from) ?? assert.fail(`${from} is in no room`), roomOf(to)]
      return there !== undefined && there !== here && !ROOMS[here]?.includes(there)
    })
    assert.deepEqual(wrong, [])
  })

  it('have no unused door', () => {
    const used = new Set(IMPORTS.map(({ from, to }) => `${roomOf(from)} ${roomOf(to)}`))
    const unused = Object.entries(ROOMS).flatMap(([room, seen]) =>
      seen.filter((to) => !used.has(`${room} ${to}`)).map((to) => `${room} ${to}`),
    )
    assert.deepEqual(unused, [])
  })

  it('export no name twice', () => {
    const exported = FILES.flatMap((file) =>
      [...readFileSync(join(ROOT, file), 'utf8').matchAll(EXPORTED)].map(([, name = '']) => ({ name, file })),
    )
    const twice = [...Map.groupBy(exported, ({ name }) => name)].filter(
      ([, of]) => new Set(of.map(({ file }) => file)).size > 1,
    )
    assert.deepEqual(twice, [])
  })

  it('keep each package inside its files', () => {
    const wrong = IMPORTS.filter(({ from, to }) => BEHIND.some(({ what, files }) => what.test(to) && !files.test(from)))
    assert.deepEqual(wrong, [])
  })

  it('have no two folders that import each other', () => {
    const arrows = new Set(
      IMPORTS.filter(({ to }) => to.startsWith('lib/')).map(({ from, to }) => `${dirname(from)} ${dirname(to)}`),
    )
    const mutual = [...arrows].filter((arrow) => {
      const [from = '', to = ''] = arrow.split(' ')
      // The folders of a room belong to the room.
      const isInside = `${from}/`.startsWith(`${to}/`) || `${to}/`.startsWith(`${from}/`)
      return !isInside && from < to && arrows.has(`${to} ${from}`)
    })
    assert.deepEqual(mutual, [])
  })

  it('have no circle of files', () => {
    assert.deepEqual(circles(), [])
  })

  it('are drawn in CONTRIBUTING.md as they are', () => {
    const drawn = /```mermaid\n([\s\S]*?)```/.exec(readFileSync(join(ROOT, 'CONTRIBUTING.md'), 'utf8'))?.[1]
    assert.equal(drawn, drawRooms(), `the drawing must be:\n${drawRooms()}`)
  })
})

/** Each set of files that import each other, directly or through others of the set (Tarjan's strongly connected components). */
function circles(): string[][] {
  const next = Map.groupBy(
    IMPORTS.filter(({ to }) => FILES.includes(to)),
    ({ from }) => from,
  )
  const found: string[][] = []
  const order = new Map<string, number>()
  const lowest = new Map<string, number>()
  const open: string[] = []
  const visit = (file: string): number => {
    const own = order.size
    order.set(file, own)
    lowest.set(file, own)
    open.push(file)
    for (const { to } of next.get(file) ?? []) {
      const known = order.get(to)
      if (known === undefined) lowest.set(file, Math.min(lowest.get(file) ?? own, visit(to)))
      else if (open.includes(to)) lowest.set(file, Math.min(lowest.get(file) ?? own, known))
    }
    const low = lowest.get(file) ?? own
    if (low === own) {
      const circle = open.splice(open.indexOf(file))
      if (circle.length > 1) found.push(circle.sort())
    }
    return low
  }
  for (const file of FILES) if (!order.has(file)) visit(file)
  return found
}
