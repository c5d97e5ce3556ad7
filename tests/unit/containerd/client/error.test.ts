import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Code, ConnectError } from '@connectrpc/connect'
import { ContainerdError, containerdError } from '../../../../lib/containerd/client/error.ts'

const system = (code: string) => Object.assign(new Error(`connect ${code}`), { code })

test('containerdError names errors of gRPC and the system', () => {
  const cases = [
    [new ConnectError('no such content', Code.NotFound), 'not-found'],
    [new ConnectError('too late', Code.DeadlineExceeded), 'timeout'],
    [new ConnectError('shutting down', Code.Unavailable), 'unavailable'],
    [new ConnectError('cut', Code.Aborted), 'unavailable'],
    [new ConnectError('unknown service', Code.Unimplemented), 'unsupported'],
    [new ConnectError('broken database', Code.Internal), 'unexpected'],
    [new ConnectError('no', Code.Internal, undefined, undefined, system('ENOENT')), 'unavailable'],
    [new ConnectError('no', Code.Internal, undefined, undefined, system('EACCES')), 'denied'],
    [system('ECONNREFUSED'), 'unavailable'],
    [new TypeError('a mistake of ours'), 'unexpected'],
    ['not even an error', 'unexpected'],
  ] as const
  for (const [cause, code] of cases) {
    const error = containerdError('Content.Info', cause)
    assert.equal(error.code, code, String(cause))
    assert.match(error.message, /^containerd Content\.Info: /)
    assert.equal(error.cause, cause)
  }
})

test('containerdError passes a ContainerdError through, even from inside another error', () => {
  const closed = new ContainerdError('closed', 'the connection to containerd is closed')
  assert.equal(containerdError('Version', closed), closed)
  assert.equal(containerdError('Version', ConnectError.from(closed)), closed)
})

test('containerdError copes with a cycle of causes', () => {
  const [one, two] = [new Error('one'), new Error('two')]
  one.cause = two
  two.cause = one
  assert.equal(containerdError('Version', one).code, 'unexpected')
})
