import assert from 'node:assert/strict'
import { mkdir, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { makeProbeImage, type ProbeDoor } from '../../lib/containerd/check/probe-door.ts'
import { writeProbeHosts } from '../../lib/containerd/check/probe-traces.ts'
import { CRI_NAMESPACE } from '../../lib/containerd/client/cri.ts'
import { waitFor } from '../fixtures/wait.ts'
import { certsDir, configure, containerd, never, severities, withoutLayer, withTools } from './harness/probing.ts'

after(() => containerd.close())

test('a probe that takes too long is given up, and leaves nothing behind', async () => {
  await configure({})
  await withTools(async ({ probe, traces, lines }) => {
    const before = await traces()
    const evidence = await probe({ pullTimeout: 2_000 })
    assert.deepEqual(await severities(evidence), ['probe-mirror-asked ok', 'probe-layers-kept unknown'])
    assert.deepEqual(await traces(), before)
    assert.deepEqual(lines, [])
  }, withoutLayer)
})

test('a probe ends with its signal, and leaves nothing behind', async () => {
  await configure({})
  await withTools(async ({ probe, traces, lines }) => {
    const before = await traces()
    const controller = new AbortController()
    const reason = new Error('enough')
    const probing = probe({ signal: controller.signal })
    const rejected = assert.rejects(probing, reason)
    await waitFor('a lease of the pull', async () => (await traces()).leases.length > before.leases.length)
    controller.abort(reason)
    await rejected
    assert.deepEqual(await traces(), before)
    assert.deepEqual(lines, [])
  }, withoutLayer)
})

for (const [request, what] of ['the HEAD', 'the manifest', 'the config', 'the layer'].entries()) {
  test(`a probe whose signal aborts while it gets ${what} leaves no name behind, and none appears later`, async () => {
    await configure({})
    for (let round = 1; round <= 4; round++) {
      const controller = new AbortController()
      let requests = 0
      // The answer and the cancellation reach containerd at the same time, so it may handle either first.
      const frozen = (door: ProbeDoor) => async (asked: Request) => {
        const response = door.fetch(asked) ?? new Response(null, { status: 404 })
        if (requests++ !== request) return response
        await containerd.freeze()
        setTimeout(() => controller.abort(new Error('enough')), round)
        setTimeout(() => containerd.thaw(), 20)
        return response
      }
      await withTools(async ({ probe, traces, lines }) => {
        const names = async () => {
          const { images, certs } = await traces()
          return { images, certs }
        }
        const before = await names()
        await assert.rejects(probe({ signal: controller.signal }), { message: 'enough' })
        assert.deepEqual(await names(), before)
        // As long as containerd's running work can take.
        await delay(200)
        assert.deepEqual(await names(), before)
        assert.deepEqual(lines, [])
      }, frozen)
    }
  })
}

test('sweep removes what a killed probe left behind, and nothing of a running one', async () => {
  await configure({})
  await withTools(async ({ probe, sweep, traces, cri }) => {
    const before = await traces()
    // Nothing listens on that port any more.
    const dead = 'probe-0123456789abcdef-9.swarmirror.invalid'
    await writeProbeHosts(certsDir, dead, 'http://127.0.0.1:9')
    await mkdir(join(certsDir, `.${dead}`))
    const stranger = 'probe-0123456789abcdef.swarmirror.invalid'
    await mkdir(join(certsDir, stranger))
    const controller = new AbortController()
    const running = probe({ signal: controller.signal })
    const ended = assert.rejects(running)
    try {
      const during = await waitFor('the hosts.toml of the running probe', async () => {
        const { certs } = await traces()
        return certs.length === before.certs.length + 4 && certs
      })
      assert.deepEqual(await sweep(), [dead])
      assert.deepEqual(
        (await traces()).certs,
        during.filter((name) => !name.includes(dead)),
      )
    } finally {
      controller.abort(new Error('enough'))
      await ended
    }
    await rmdir(join(certsDir, stranger))
    assert.deepEqual(await traces(), before)
    assert.equal((await cri.version(never)).name, 'containerd')
  }, withoutLayer)
})

test('sweep removes an image with all its names and its content', async () => {
  await configure({})
  const doors: ProbeDoor[] = []
  const answer = (door: ProbeDoor) => {
    doors.push(door)
    return (request: Request) => door.fetch(request) ?? new Response(null, { status: 404 })
  }
  await withTools(async ({ cri, sweep, traces, listener }) => {
    const before = await traces()
    const image = makeProbeImage(listener.port)
    await writeProbeHosts(certsDir, image.registry, `http://127.0.0.1:${listener.port}`)
    const [door] = doors
    assert.ok(door)
    const served = door.serve(image)
    await cri.pullImage(image.reference, never)
    // What a removal leaves when it is killed half-way: names that do not contain the registry.
    await containerd.ctr(CRI_NAMESPACE, ['images', 'rm', image.reference])
    assert.deepEqual(await sweep(), [], 'its owner still runs')
    served.close()
    assert.deepEqual(await sweep(), [image.registry])
    assert.deepEqual(await traces(), before)
  }, answer)
})

test('a pull that dies with containerd leaves no name behind once it has been swept', async () => {
  await configure({})
  await withTools(async ({ probe, sweep, traces, lines }) => {
    const before = await traces()
    const ended = assert.rejects(probe(), { name: 'ContainerdError', code: 'unavailable' })
    await waitFor('something of the probe', async () => (await traces()).content.length > before.content.length)
    await containerd.kill()
    await ended
    assert.deepEqual(
      lines.map(({ event }) => event),
      ['a probe could not be removed; the next start tries again'],
    )
    await containerd.start()
    assert.equal((await sweep()).length, 1)
    const { images, certs } = await traces()
    assert.deepEqual({ images, certs }, { images: before.images, certs: before.certs })
  }, withoutLayer)
})
