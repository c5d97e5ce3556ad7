import assert from 'node:assert/strict'
import process from 'node:process'
import { test } from 'node:test'
import { listen } from '../../../lib/platform/listen.ts'
import { type Handler, KEEP_ALIVE_TIMEOUT } from '../../../lib/platform/listener.ts'
import { exchange, parseResponse, type RawClient, requestText, withRawClient } from '../../fixtures/http.ts'
import { withListener } from '../../fixtures/listen.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

const text = (body: string) => new Response(body, { headers: { 'content-length': String(body.length) } })
const GET = requestText('GET', '/')

/** A body that gives its chunks, and then calls `last` when it is pulled again. */
function bodyOf(
  chunks: readonly Uint8Array[],
  last: (controller: ReadableStreamDefaultController<Uint8Array>) => void | Promise<void>,
  cancelled: () => void = () => undefined,
): ReadableStream<Uint8Array> {
  let at = 0
  return new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        const chunk = chunks[at++]
        if (chunk === undefined) return last(controller)
        controller.enqueue(chunk)
      },
      cancel: cancelled,
    },
    { highWaterMark: 0 },
  )
}

const PART = new Uint8Array(1_000_000).map((_, index) => index % 251)

/** Sends GET / and returns everything until the end of the connection. */
async function readToEnd(client: RawClient) {
  client.send(GET)
  const ending = await client.ended()
  return { ending, response: parseResponse(client.received) }
}

for (const [what, last] of [
  [
    'errors in the middle',
    (controller) => {
      controller.error(new Error('the disk is gone'))
    },
  ],
  ['ends short', (controller) => controller.close()],
  [
    'throws in the middle',
    () => {
      throw new Error('the peer is gone')
    },
  ],
] satisfies [string, (controller: ReadableStreamDefaultController<Uint8Array>) => void][]) {
  test(`listen ends with FIN, after the bytes that were good, a body that ${what}`, async () => {
    const handler = () => new Response(bodyOf([PART], last), { headers: { 'content-length': '2000000' } })
    await withListener(handler, async ({ port }, failures) => {
      await withRawClient(port, async (client) => {
        const { ending, response } = await readToEnd(client)
        assert.equal(ending, 'fin')
        assert.equal(response?.status, 200)
        assert.deepEqual(response?.body, Buffer.from(PART))
      })
      await waitFor('the failure is told', () => failures.length > 0)
      assert.equal(failures.length, 1)
      assert.match(String(failures[0]?.error), /BodyError: the body broke off after 1000000 of 2000000 bytes/)
      assert.deepEqual(failures[0]?.request, { method: 'GET', url: '/' })
    })
  })
}

test('listen cuts a body that is longer than declared, ends the connection with FIN and cancels the source', async () => {
  let cancelled = 0
  const body = () =>
    bodyOf(
      [PART, PART],
      () => assert.fail('pulled beyond what was declared'),
      () => {
        cancelled++
      },
    )
  const handler = () => new Response(body(), { headers: { 'content-length': '1000010' } })
  await withListener(handler, async ({ port }, failures) => {
    await withRawClient(port, async (client) => {
      const { ending, response } = await readToEnd(client)
      assert.equal(ending, 'fin')
      assert.deepEqual(response?.body, Buffer.concat([PART, PART.subarray(0, 10)]))
    })
    await waitFor('the source is cancelled', () => cancelled === 1)
    const error = failures[0]?.error ?? assert.fail('the failure was not told')
    assert.match(String((error as Error).cause), /more than the 1000010 bytes declared/)
  })
})

test('listen ends a broken body with FIN, even if the client has already sent a second request', async () => {
  let asked = 0
  const handler = () => {
    asked++
    return new Response(
      bodyOf([PART], (controller) => controller.error(new Error('gone'))),
      { headers: { 'content-length': '2000000' } },
    )
  }
  await withListener(handler, async ({ port }) => {
    await withRawClient(port, async (client) => {
      client.send(GET)
      const { ending, response } = await readToEnd(client)
      assert.equal(ending, 'fin')
      assert.deepEqual(response?.body, Buffer.from(PART))
    })
    assert.ok(asked >= 1)
  })
})

test('listen answers many pipelined requests in their order, without a warning', async () => {
  const warnings: unknown[] = []
  const warned = (warning: unknown) => warnings.push(warning)
  process.on('warning', warned)
  try {
    await withListener(
      ({ url }) => text(new URL(url).pathname),
      async ({ port }) => {
        await withRawClient(port, async (client) => {
          const paths = Array.from({ length: 40 }, (_, index) => `/${index}`)
          client.send(paths.map((path) => requestText('GET', path)).join(''))
          for (const path of paths) assert.equal(String((await client.response()).body), path)
        })
      },
    )
    // Warnings come later, in their order.
    process.emitWarning('the last one')
    await waitFor('it', () => warnings.map(String).includes('Warning: the last one'))
    assert.deepEqual(warnings.map(String), ['Warning: the last one'])
  } finally {
    process.off('warning', warned)
  }
})

test('listen answers pipelined requests one after another, and ends a connection with too many of them', async () => {
  let asked = 0
  const handler = () => {
    asked++
    return new Promise<Response>(() => undefined)
  }
  await withListener(handler, async ({ port }) => {
    await withRawClient(port, async (client) => {
      client.send(GET.repeat(2))
      await waitFor('the first request', () => asked > 0)
      client.send(GET.repeat(2_000))
      assert.notEqual(await within('the end of the connection', client.ended()), 'open')
      assert.equal(asked, 1)
    })
  })
})

test('listen answers 500 to a body that fails before its first byte, and keeps the connection', async () => {
  let fail = true
  const handler = () => {
    const broken = bodyOf([], (controller) => controller.error(new Error('no such content')))
    return fail ? new Response(broken, { headers: { 'content-length': '10', etag: '"x"' } }) : text('fine')
  }
  await withListener(handler, async ({ port }, failures) => {
    await withRawClient(port, async (client) => {
      client.send(GET)
      const failed = await client.response()
      assert.equal(failed.status, 500)
      assert.equal(failed.headers.etag, undefined)
      assert.match(failed.body.toString(), /internal error/)
      fail = false
      client.send(GET)
      assert.equal((await client.response()).body.toString(), 'fine')
    })
    assert.match(String(failures[0]?.error), /no such content/)
  })
})

for (const [what, handler] of [
  [
    'throws',
    () => {
      throw new Error('a bug')
    },
  ],
  ['rejects', async () => Promise.reject(new Error('a bug'))],
] satisfies [string, Handler][]) {
  test(`listen answers 500, tells why and keeps the connection when the handler ${what}`, async () => {
    await withListener(handler, async ({ port }, failures) => {
      await withRawClient(port, async (client) => {
        for (let round = 1; round <= 2; round++) {
          client.send(requestText('GET', `/${round}`))
          assert.equal((await client.response()).status, 500)
          assert.equal(failures.length, round)
          assert.match(String(failures[round - 1]?.error), /a bug/)
          assert.equal(failures[round - 1]?.request.url, `/${round}`)
        }
      })
    })
  })
}

test('listen cancels a body that waits for its source when the client leaves', async () => {
  let cancelled = 0
  let signal: AbortSignal | undefined
  const handler = (request: Request) => {
    signal = request.signal
    const never = new Promise<void>(() => undefined)
    const body = bodyOf(
      [PART.subarray(0, 10)],
      () => never,
      () => {
        cancelled++
      },
    )
    return new Response(body, { headers: { 'content-length': '20' } })
  }
  await withListener(handler, async ({ port }, failures) => {
    await withRawClient(port, async (client) => {
      client.send(GET)
      await waitFor('the first bytes', () => parseResponse(client.received)?.body.length === 10)
      assert.equal(cancelled, 0)
    })
    await waitFor('the source is cancelled', () => cancelled === 1)
    await waitFor('the signal of the request is aborted', () => signal?.aborted)
    assert.deepEqual(failures, [])
  })
})

test('listen cancels a body that has not begun when the client leaves', async () => {
  let asked = false
  let cancelled = 0
  const handler = () => {
    asked = true
    const body = bodyOf(
      [],
      () => new Promise<void>(() => undefined),
      () => {
        cancelled++
      },
    )
    return new Response(body, { headers: { 'content-length': '20' } })
  }
  await withListener(handler, async ({ port }, failures) => {
    await withRawClient(port, async (client) => {
      client.send(GET)
      await waitFor('the request is there', () => asked)
    })
    await waitFor('the source is cancelled', () => cancelled === 1)
    assert.deepEqual(failures, [])
  })
})

test('listen keeps the connection after whole bodies, declared and empty, and after HEAD', async () => {
  const handler = (request: Request) => {
    switch (new URL(request.url).pathname) {
      case '/declared':
        return text('declared')
      case '/empty':
        return new Response(null, { status: 200, headers: { 'content-length': '0' } })
      default:
        return new Response(null, { status: 304, headers: { etag: '"x"' } })
    }
  }
  await withListener(handler, async ({ port }, failures) => {
    await withRawClient(port, async (client) => {
      client.send(requestText('GET', '/declared'))
      assert.equal((await client.response()).body.toString(), 'declared')
      client.send(requestText('GET', '/empty'))
      assert.equal((await client.response()).body.length, 0)
      client.send(requestText('GET', '/unmodified'))
      assert.equal((await client.response()).status, 304)
      client.send(requestText('HEAD', '/declared'))
      const head = await client.response(true)
      assert.equal(head.headers['content-length'], '8')
      assert.equal(client.ending, 'open')
    })
    assert.deepEqual(failures, [])
  })
})

test('listen ends the connection after a body without a declared length', async () => {
  const handler = () => new Response(bodyOf([PART], (controller) => controller.close()))
  await withListener(handler, async ({ port }, failures) => {
    await withRawClient(port, async (client) => {
      const { ending, response } = await readToEnd(client)
      assert.equal(ending, 'fin')
      assert.equal(response?.headers.connection, 'close')
      assert.deepEqual(response?.body, Buffer.from(PART))
    })
    assert.deepEqual(failures, [])
  })
})

test('listen reads the short body of a POST, and ends the connection after the answer to any other body', async () => {
  const handler = async (request: Request) => text(`${request.method} ${await request.text()}.`)
  await withListener(handler, async ({ port }, failures) => {
    await withRawClient(port, async (client) => {
      client.send(`${requestText('POST', '/', { 'Content-Length': '8' })}{"a":`)
      client.send(`"b"${GET}`)
      assert.equal(String((await client.response()).body), 'POST {"a":"b".')
      assert.equal(String((await client.response()).body), 'GET .')
    })
    for (const [method, name, value] of [
      ['POST', 'Content-Length', '4097'],
      ['POST', 'Transfer-Encoding', 'chunked'],
      ['PUT', 'Content-Length', '1'],
      ['GET', 'Content-Length', '1'],
    ] as const) {
      await withRawClient(port, async (client) => {
        client.send(requestText(method, '/', { [name]: value }))
        assert.equal(String((await client.response()).body), `${method} .`)
        // An idle connection ends too, but later.
        assert.equal(await within('the end', client.ended(), KEEP_ALIVE_TIMEOUT / 2), 'fin')
      })
    }
    assert.deepEqual(failures, [])
  })
})

test('listen answers HEAD with the length of the body, sends none and cancels it unread', async () => {
  let pulled = 0
  let cancelled = 0
  const handler = () => {
    const body = new ReadableStream<Uint8Array>(
      {
        pull() {
          pulled++
        },
        cancel() {
          cancelled++
        },
      },
      { highWaterMark: 0 },
    )
    return new Response(body, { headers: { 'content-length': '12345' } })
  }
  await withListener(handler, async ({ port }) => {
    await withRawClient(port, async (client) => {
      client.send(requestText('HEAD', '/'))
      assert.equal((await client.response(true)).headers['content-length'], '12345')
      client.send(requestText('HEAD', '/'))
      // Bytes of a body would come before this response.
      assert.equal((await client.response(true)).status, 200)
      assert.equal(client.received.length, 0)
    })
    assert.equal(pulled, 0)
    await waitFor('both bodies are cancelled', () => cancelled === 2)
  })
})

test('listen pulls no more from a body than the buffers of a client that does not read can take', async () => {
  const chunk = new Uint8Array(64 * 1024)
  const total = 512 * 1024 * 1024
  let pulled = 0
  const handler = () => {
    const body = new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          pulled += chunk.length
          controller.enqueue(chunk)
        },
      },
      { highWaterMark: 0 },
    )
    return new Response(body, { headers: { 'content-length': String(total) } })
  }
  await withListener(handler, async ({ port }) => {
    await withRawClient(port, async (client) => {
      client.socket.pause()
      client.send(GET)
      await waitFor('the body begins', () => pulled > 0)
      // Once the kernel's buffers are full, nothing moves any more.
      let last = -1
      await waitFor('the body stands still', async () => {
        const still = pulled === last
        last = pulled
        await new Promise((resolve) => setTimeout(resolve, 200))
        return still && pulled === last
      })
      assert.ok(pulled < 32 * 1024 * 1024, `${pulled} bytes pulled for a client that reads nothing`)
    })
  })
})

test('listen refuses a path that a URL parser would change, before any handler sees it', async () => {
  const seen: string[] = []
  const handler = (request: Request) => {
    seen.push(new URL(request.url).pathname)
    return text('seen')
  }
  await withListener(handler, async ({ port }) => {
    for (const path of [
      '/../x',
      '/a/../b',
      '/a/./b',
      '/a/..',
      '/%2e%2e/x',
      '/a/%2E%2e/b',
      '/a/.%2e/b',
      '/a\\b',
      '/a\\..\\b',
      '/a"b',
      '/a<b>',
      '/{a}',
      'http://other.example/x',
      'x',
      '*',
    ]) {
      assert.equal((await exchange(port, requestText('GET', path, { Connection: 'close' }))).status, 400, path)
    }
    assert.deepEqual(seen, [])
    for (const path of ['/', '/a//b', '/a%2fb', '/a%00b', '/a:b@c', "/a?b=../c&d='\\", '/...', '/a?x#y']) {
      assert.equal((await exchange(port, requestText('GET', path, { Connection: 'close' }))).status, 200, path)
    }
    assert.equal(seen.length, 8)
  })
})

test('listen answers 431 to a head beyond the limit, and 400 to bytes that are not HTTP', async () => {
  let asked = 0
  const handler = () => {
    asked++
    return text('fine')
  }
  await withListener(handler, async ({ port }) => {
    for (const [status, request] of [
      [431, requestText('GET', '/', { 'X-Large': 'x'.repeat(20_000) })],
      [431, requestText('GET', `/${'x'.repeat(20_000)}`)],
      [
        431,
        requestText('GET', '/', Object.fromEntries(Array.from({ length: 1500 }, (_, i) => [`x-${i}`, 'aaaaaaaa']))),
      ],
      [400, 'nonsense\r\n\r\n'],
      [400, 'GET / HTTP/1.1\r\nno colon\r\n\r\n'],
      [400, 'GET / HTTP/1.1\r\n\r\n'],
    ] satisfies [number, string][]) {
      await withRawClient(port, async (client) => {
        client.send(request)
        await client.ended()
        assert.equal(parseResponse(client.received)?.status, status, request.slice(0, 40))
      })
    }
    assert.equal(asked, 0)
  })
})

test('listen reports an address in use', async () => {
  await withListener(
    () => text(''),
    async ({ port }) => {
      await assert.rejects(
        listen(() => text(''), { host: '127.0.0.1', port, onError: () => undefined }),
        { code: 'EADDRINUSE' },
      )
    },
  )
})
