import assert from 'node:assert/strict'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { connectContainerd } from '../../lib/containerd/client/client.ts'
import { checkHosts } from '../../lib/containerd/hosts/check.ts'
import { HOSTS_FILES } from '../../lib/containerd/hosts/files.ts'
import { mirrorEntryFor } from '../../lib/containerd/hosts/mirror-entry.ts'
import { listen } from '../../lib/platform/listen.ts'
import { startContainerd } from '../fixtures/containerd.ts'

const REGISTRY = 'registry.invalid'
const containerd = await startContainerd()
const certsDir = join(dirname(containerd.socket), 'certs.d')
after(() => containerd.close())

/** Whether containerd asks the mirror of a hosts.toml before the pull fails, as it must: nobody has the image. */
async function asks(
  root: string,
  more: string,
  put: (directory: string) => Promise<void>,
): Promise<{ asked: boolean; ids: string[] }> {
  let asked = false
  const listener = await listen(
    () => {
      asked = true
      return new Response(null, { status: 404, headers: { 'Content-Length': '0' } })
    },
    { host: '127.0.0.1', port: 0, onError: (error) => assert.fail(String(error)) },
  )
  const connection = connectContainerd(containerd.socket)
  const { cri } = connection
  try {
    const directory = join(certsDir, REGISTRY)
    await rm(directory, { recursive: true, force: true })
    await mkdir(directory, { recursive: true })
    const mirror = mirrorEntryFor({ host: '127.0.0.1', port: listener.port }, 'fallback', '1.7.24')
    const text = `server = "http://127.0.0.1:9"\n${root}[host."${mirror.url}"]\ncapabilities = ["pull", "resolve"]\n${more}`
    await writeFile(join(directory, 'hosts.toml'), text)
    await put(directory)
    await assert.rejects(cri.pullImage(`${REGISTRY}/x:1`, AbortSignal.timeout(10_000)), { name: 'ContainerdError' })
    const check = {
      certsDir,
      registries: [REGISTRY],
      mirror,
      version: '1.7.24',
      socket: containerd.socket,
      program: 'swarmirror',
    }
    const findings = await checkHosts({ ...check, seesAll: true }, HOSTS_FILES)
    return { asked, ids: findings.filter(({ severity }) => severity === 'error').map(({ id }) => id) }
  } finally {
    connection.close()
    await listener.close(AbortSignal.abort())
  }
}

const nothing = async () => undefined

test('check finds wrong what containerd fails every pull for, and nothing else', { timeout: 120_000 }, async () => {
  await containerd.stop()
  const configFile = join(dirname(containerd.socket), 'config.toml')
  const plugin = '[plugins."io.containerd.grpc.v1.cri".registry]'
  await writeFile(
    configFile,
    `${await readFile(configFile, 'utf8')}\n${plugin}\nconfig_path = ${JSON.stringify(certsDir)}\n`,
  )
  await containerd.start()
  const other = '[host."https://127.0.0.1:9"]\n'
  const missing = ['hosts-toml-certificate']
  for (const [what, root, more, put, ids] of [
    ['no certificates', '', other, nothing, []],
    ['a certificate that is not there', '', `${other}ca = "ca.crt"\n`, nothing, missing],
    ['one by its full path', '', `${other}ca = ["/nowhere/ca.crt"]\n`, nothing, missing],
    ['a pair that is not there', '', `${other}client = [["c.cert", "c.key"]]\n`, nothing, [...missing, ...missing]],
    [
      'a directory for a certificate',
      '',
      `${other}ca = "d"\n`,
      (at: string) => mkdir(join(at, 'd')).then(nothing),
      missing,
    ],
    ['a certificate of the registry itself', 'ca = "ca.crt"\n', '', nothing, missing],
    ['a certificate of a host that the mirror is', '', 'ca = "ca.crt"\n', nothing, missing],
  ] as const) {
    const found = await asks(root, more, put)
    assert.deepEqual(found, { asked: ids.length === 0, ids: [...ids] }, what)
  }
  const directory = (at: string) =>
    rm(join(at, 'hosts.toml'))
      .then(() => mkdir(join(at, 'hosts.toml')))
      .then(nothing)
  assert.deepEqual(await asks('', '', directory), { asked: false, ids: ['hosts-toml-no-file'] })
})
