import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ContainerdError, containerdError, GrpcError } from '../../../../lib/containerd/client/error.ts'

const system = (code: string) => Object.assign(new Error(`connect ${code}`), { code })

test('containerdError names what gRPC and the system say', () => {
  const cases = [
    [new GrpcError(5, 'no such content'), 'not-found'],
    [new GrpcError(4, 'too late'), 'timeout'],
    [new GrpcError(14, 'shutting down'), 'unavailable'],
    [new GrpcError(10, 'cut'), 'unavailable'],
    [new GrpcError(12, 'unknown service'), 'unsupported'],
    [new GrpcError(7, 'not you'), 'denied'],
    [new GrpcError(13, 'broken database'), 'unexpected'],
    [system('EACCES'), 'denied'],
    [new Error('no', { cause: system('ENOENT') }), 'unavailable'],
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

test('containerdError passes through what has its name already, also from inside', () => {
  const closed = new ContainerdError('closed', 'the connection to containerd is closed')
  assert.equal(containerdError('Version', closed), closed)
  assert.equal(containerdError('Version', new Error('cut', { cause: closed })), closed)
})

test('containerdError ends on causes that go round', () => {
  const [one, two] = [new Error('one'), new Error('two')]
  one.cause = two
  two.cause = one
  assert.equal(containerdError('Version', one).code, 'unexpected')
})
