import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import fc from 'fast-check'
import { dialectOf } from '../../lib/containerd/dialect.ts'
import { readHosts } from '../../lib/containerd/hosts/reading.ts'
import { startContainerd } from '../fixtures/containerd.ts'
import { byMajor, CONTAINERD } from './harness/index.ts'

// Nothing listens on these ports of this machine, so every host refuses at once and containerd asks the next one.
const url = (port: number) => `http://127.0.0.1:${port}`
const REGISTRY = '127.0.0.1:7'

/** Makes the client read hosts.toml, whose output shows it; with containerd 2 the server would read it. */
const LOCAL = byMajor({ 1: [], 2: ['--local'] })

const containerd = await startContainerd()
after(() => containerd.close())
const certs = join(dirname(containerd.socket), 'certs')
const path = join(certs, '127.0.0.1_7_', 'hosts.toml')
await mkdir(dirname(path), { recursive: true })

/** The URLs that containerd's own client asks with this hosts.toml, in order, and whether it discards the file. */
async function asked(text: string): Promise<{ discarded: boolean; urls: string[] }> {
  await writeFile(path, text)
  const args = ['--address', containerd.socket, 'images', 'pull', ...LOCAL, '--hosts-dir', certs, `${REGISTRY}/x:1`]
  const output = await new Promise<string>((resolve) => {
    execFile('ctr', args, (_, stdout, stderr) => resolve(`${stdout}${stderr}`))
  })
  const urls = [...output.matchAll(/(?:trying next host|fetch failed).*?Head \\"(.*?)\/x\/manifests\/1/g)].map(
    ([, url = '']) => url,
  )
  return { discarded: /failed to decode \S*hosts\.toml/.test(output), urls: urls.map(named) }
}

/** The same by our own reading of the file. containerd asks for a tag at hosts that may resolve and pull. */
function read(text: string): { discarded: boolean; urls: string[] } {
  const reading = readHosts(text, dialectOf(CONTAINERD.text))
  if (reading.kind !== 'hosts') return { discarded: reading.kind === 'discarded', urls: [REGISTRY] }
  const able = [...reading.hosts, reading.server].filter(
    ({ capabilities }) => capabilities.includes('pull') && capabilities.includes('resolve'),
  )
  return { discarded: false, urls: able.map(({ url }) => named(url)) }
}

/** containerd asks the registry itself by HTTPS and HTTP, as it is on this machine: both get one name here. */
function named(url: string): string {
  return url === '' || url.includes(`//${REGISTRY}/`) ? REGISTRY : url
}

const LINES = [
  ...[`[host."${url(1)}"]`, `[host.'${url(2)}']`, `[ host . "${url(3)}" ]`, `  [host."${url(1)}"] # c ]`],
  ...[`[host."${url(4)}".header]`, '[host."127.0.0.1:5"]', `["host"."${url(6)}"]`, '[host."http://[::1]:5000"]'],
  ...['[[host]]', '[[other]]', '[other]', '[', `[host."${url(6)}/v2/"]`],
  // Only containerd 1 asks a host that has no table header of its own, or skips a byte order mark.
  ...byMajor({ 1: [], 2: [`host."${url(8)}".capabilities = ["pull", "resolve"]`, `host = { "${url(9)}" = { } }`] }),
  ...['capabilities = ["pull", "resolve"]', 'capabilities = ["PULL",\n"resolve" # x\n,]', 'capabilities = []'],
  ...['capabilities = ["pull"]', 'capabilities = "pull"', 'capabilities = ["pull", 1]', "capabilities = ['fly']"],
  ...[`server = "${url(12)}"`, `server = '${url(13)}/v2'`, 'server = "127.0.0.1:14"', 'server = ""', 'server = 1'],
  ...['skip_verify = 1', 'override_path = true', 'ca = 1', 'client = []', 'client = [[]]', 'client = [["a"]]'],
  ...['header = { a = "b" }', 'header = { a = 1 }', 'a = ["b", "c"]', 'x-y = """\n[host."z"]\n"""', 'dial_timeout = 5'],
  ...[
    'k = 1979-05-27T07:32:00Z',
    'k = 0x1F',
    'k = inf',
    "k = '''a\nb'''",
    // containerd 2's parser accepts this escape of TOML 1.1. readHosts refuses it, as nobody writes it.
    ...byMajor({ 1: ['k = "\\e"'], 2: [] }),
    '"" = 1',
    'k = ',
    'k = 1 j = 2',
  ],
  ...['# c', '', '\tk.a = 1', 'é = 1', 'k = [1, "a"]'],
]

const text = fc
  .record({
    lines: fc.array(fc.constantFrom(...LINES), { maxLength: 6 }),
    eol: fc.constantFrom('\n', '\n', '\r\n'),
    final: fc.boolean(),
    mark: fc.constantFrom('', '', '', ...byMajor({ 1: [], 2: ['\ufeff'] })),
  })
  .map(({ lines, eol, final, mark }) => `${mark}${lines.join('\n')}${final ? '\n' : ''}`.replaceAll('\n', eol))

test('readHosts reads any hosts.toml as containerd itself does', { timeout: 120_000 }, async () => {
  const same = async (text: string) => {
    const [theirs, ours] = [await asked(text), read(text)]
    assert.equal(ours.discarded, theirs.discarded, text)
    if (!ours.discarded) assert.deepEqual(ours.urls, theirs.urls, text)
  }
  for (const line of LINES) await same(`[host."${url(1)}"]\n${line}\n`)
  await fc.assert(fc.asyncProperty(text, same), { numRuns: 150 })
})
