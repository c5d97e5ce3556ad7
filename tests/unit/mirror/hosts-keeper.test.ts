import assert from 'node:assert/strict'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { createHostsKeeper } from '../../../lib/mirror/guard.ts'
import { withTemporaryDirectory } from '../../fixtures/image.ts'
import { createLogRecorder } from '../../fixtures/log.ts'
import { readSettings } from '../../fixtures/settings.ts'

const listen = { host: '127.0.0.1', port: 5000 }

function keeperOf(certs: string, ...flags: string[]) {
  const { log, lines } = createLogRecorder()
  const settings = readSettings({ flags: ['--certs-dir', certs, ...flags], environment: {}, opensDoors: false })
  const told = () =>
    lines.map(({ level, event, fields }) => [level, event, fields.path, fields.action ?? fields.reason])
  return { keep: createHostsKeeper(settings, listen, log), told, lines }
}

test('hosts keeper writes missing files, again whenever somebody removes them, and nothing else', async () => {
  await withTemporaryDirectory(async (certs) => {
    const path = join(certs, '_default', 'hosts.toml')
    const { keep, told } = keeperOf(certs)
    await keep()
    const written = await readFile(path, 'utf8')
    assert.match(written, /\[host\."http:\/\/127\.0\.0\.1:5000"\]/)
    await keep()
    assert.deepEqual(told(), [['info', 'hosts.toml written', path, 'create']])
    await rm(join(certs, '_default'), { recursive: true })
    await keep()
    assert.equal(await readFile(path, 'utf8'), written)
    // K3s, for example, writes its own files.
    await writeFile(path, '[host."https://cache.example"]\n')
    await keep()
    assert.match(await readFile(path, 'utf8'), /127\.0\.0\.1:5000[\s\S]*cache\.example/)
    assert.equal(told().length, 3)
  })
})

test('hosts keeper leaves registries with a directory of their own alone unless it is told of them', async () => {
  await withTemporaryDirectory(async (certs) => {
    const own = join(certs, 'ghcr.io', 'hosts.toml')
    await mkdir(join(certs, 'ghcr.io'))
    await writeFile(own, '[host."https://cache.example"]\n')
    await keeperOf(certs).keep()
    assert.doesNotMatch(await readFile(own, 'utf8'), /127\.0\.0\.1/)
    await keeperOf(certs, '--also', 'all').keep()
    assert.match(await readFile(own, 'utf8'), /127\.0\.0\.1:5000[\s\S]*cache\.example/)
  })
})

test('hosts keeper logs files that it cannot write, and writes the others', async () => {
  await withTemporaryDirectory(async (certs) => {
    const broken = join(certs, 'ghcr.io', 'hosts.toml')
    await mkdir(join(certs, 'ghcr.io'))
    await writeFile(broken, 'a = ]\n')
    const { keep, told } = keeperOf(certs, '--also', 'all')
    await keep()
    assert.equal(await readFile(broken, 'utf8'), 'a = ]\n')
    const [left, written] = told()
    assert.deepEqual(left?.slice(0, 3), ['warn', 'hosts.toml left as it is', broken])
    assert.match(String(left?.[3]), /line 1/)
    assert.deepEqual(written, ['info', 'hosts.toml written', join(certs, '_default', 'hosts.toml'), 'create'])
    // A file where the directory should be.
    const nowhere = join(certs, 'ghcr.io', 'hosts.toml')
    const { keep: keepNowhere, lines } = keeperOf(nowhere)
    await keepNowhere()
    assert.ok(lines.some(({ level }) => level === 'warn' || level === 'error'))
  })
})
