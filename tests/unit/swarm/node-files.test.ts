import assert from 'node:assert/strict'
import { chmod, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { silentLogger } from '../../../lib/observe/log.ts'
import { createNodeFiles } from '../../../lib/swarm/node-files.ts'
import { withTemporaryDirectory } from '../../fixtures/image.ts'
import { createLogRecorder } from '../../fixtures/log.ts'
import { within } from '../../fixtures/wait.ts'

const node = (port: number) => ({ host: '192.0.2.1', port })

test('NodeFiles makes its directory, for the owner only', async () => {
  await withTemporaryDirectory(async (parent) => {
    const dir = join(parent, 'made', 'as needed')
    assert.deepEqual((await createNodeFiles(dir, silentLogger)).nodes, [])
    assert.equal((await stat(dir)).mode & 0o777, 0o700)
  })
  // Node's own recursive mkdir would never end.
  await assert.rejects(within('an error', createNodeFiles('/proc/no such process/data', silentLogger)), /ENOENT/)
})

test('NodeFiles keeps the nodes known last, and forgets none when it finds none', async () => {
  await withTemporaryDirectory(async (dir) => {
    const first = await createNodeFiles(dir, silentLogger)
    first.remember([node(1), node(2)])
    first.remember([])
    first.remember([node(3)])
    await first.close()
    const second = await createNodeFiles(dir, silentLogger)
    assert.deepEqual(second.nodes, [node(3), node(1), node(2)])
    assert.deepEqual(second.nodes, first.nodes)
  })
})

test('NodeFiles keeps a bounded number of nodes, those of the present first', async () => {
  await withTemporaryDirectory(async (dir) => {
    const memory = await createNodeFiles(dir, silentLogger)
    const ports = (from: number, count: number) => Array.from({ length: count }, (_, index) => node(from + index))
    memory.remember(ports(1, 150))
    memory.remember(ports(1001, 150))
    assert.deepEqual(memory.nodes, [...ports(1001, 150), ...ports(1, 50)])
    memory.remember(ports(2001, 500))
    assert.deepEqual(memory.nodes, ports(2001, 200))
    await memory.close()
  })
})

test('NodeFiles writes only when a node is new, whatever their order', async () => {
  await withTemporaryDirectory(async (dir) => {
    const memory = await createNodeFiles(dir, silentLogger)
    memory.remember([node(1), node(2)])
    await memory.close()
    const { mtimeNs, ino } = await stat(join(dir, 'nodes.json'), { bigint: true })
    for (const nodes of [[node(2), node(1)], [node(2)], []]) memory.remember(nodes)
    await memory.close()
    const after = await stat(join(dir, 'nodes.json'), { bigint: true })
    assert.deepEqual([after.mtimeNs, after.ino], [mtimeNs, ino])
  })
})

for (const [what, file, text] of [
  ['nodes that are not a list', 'nodes.json', '{"host":"192.0.2.1"}'],
  ['a node that is a name', 'nodes.json', '[{"host":"node.example","port":1}]'],
  ['a node of port 0', 'nodes.json', '[{"host":"192.0.2.1","port":0}]'],
] as const) {
  test(`NodeFiles reports ${what}, puts the file aside and starts anew`, async () => {
    await withTemporaryDirectory(async (dir) => {
      const healthy = await createNodeFiles(dir, silentLogger)
      healthy.remember([node(1)])
      await healthy.close()
      await writeFile(join(dir, file), text)
      const { log, lines } = createLogRecorder()
      const memory = await createNodeFiles(dir, log)
      assert.deepEqual(
        lines.map(({ level, event }) => [level, event]),
        [['error', 'damaged file replaced']],
      )
      assert.equal(await readFile(join(dir, `${file}.damaged`), 'utf8'), text)
      assert.deepEqual(memory.nodes, [])
      assert.equal(lines.length, 1)
    })
  })
}

test('NodeFiles replaces files in one step: half a file from an earlier crash does not matter', async () => {
  await withTemporaryDirectory(async (dir) => {
    await writeFile(join(dir, 'nodes.json.new'), '[{"ho')
    const { log, lines } = createLogRecorder()
    const second = await createNodeFiles(dir, log)
    second.remember([node(1)])
    await second.close()
    assert.deepEqual((await createNodeFiles(dir, log)).nodes, [node(1)])
    assert.deepEqual(lines, [])
    assert.ok(!(await readdir(dir)).includes('nodes.json.new'))
  })
})

test('NodeFiles logs that nodes cannot be written, and goes on', async () => {
  await withTemporaryDirectory(async (parent) => {
    const dir = join(parent, 'data')
    const { log, lines } = createLogRecorder()
    const memory = await createNodeFiles(dir, log)
    await rm(dir, { recursive: true })
    memory.remember([node(1)])
    await memory.close()
    assert.deepEqual(
      lines.map(({ level, event }) => [level, event]),
      [['warn', 'cannot write the known nodes']],
    )
    assert.deepEqual(memory.nodes, [node(1)])
    await mkdir(dir)
    memory.remember([node(2)])
    await memory.close()
    assert.match(await readFile(join(dir, 'nodes.json'), 'utf8'), /"port":2/)
  })
})

test('NodeFiles open fails where no directory can be', async () => {
  await withTemporaryDirectory(async (dir) => {
    await writeFile(join(dir, 'file'), '')
    await chmod(join(dir, 'file'), 0o600)
    await assert.rejects(createNodeFiles(join(dir, 'file'), silentLogger), /EEXIST|ENOTDIR/)
    await assert.rejects(createNodeFiles(join(dir, 'file', 'below'), silentLogger), /ENOTDIR|EEXIST/)
  })
})
