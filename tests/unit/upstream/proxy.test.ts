import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createProxyChoice } from '../../../lib/upstream/proxy.ts'

const PROXIES = { http: 'http://plain:1', https: 'https://secure:2' }

for (const [except, url, proxy] of [
  ['', 'http://a.example/', 'http://plain:1/'],
  ['', 'https://a.example/', 'https://secure:2/'],
  ['', 'http://localhost:5000/', undefined],
  ['', 'http://127.1.2.3/', undefined],
  ['', 'http://[::1]:5000/', undefined],
  ['*', 'https://a.example/', undefined],
  ['a.example', 'https://a.example/', undefined],
  ['a.example', 'https://b.a.example/', undefined],
  ['a.example', 'https://ba.example/', 'https://secure:2/'],
  ['.a.example', 'https://b.a.example/', undefined],
  ['.a.example', 'https://a.example/', 'https://secure:2/'],
  ['*.a.example', 'https://b.a.example/', undefined],
  ['*.a.example', 'https://a.example/', 'https://secure:2/'],
  [' A.Example , b.example', 'https://a.example/', undefined],
  [' A.Example , b.example', 'https://b.example/', undefined],
  ['a.example:443', 'https://a.example/', undefined],
  ['a.example:80', 'http://a.example/', undefined],
  ['a.example:8443', 'https://a.example/', 'https://secure:2/'],
  ['a.example:8443', 'https://a.example:8443/', undefined],
  ['10.0.0.7', 'http://10.0.0.7:5000/', undefined],
  ['10.0.0.7:5000', 'http://10.0.0.7:5000/', undefined],
  ['10.0.0.7:5001', 'http://10.0.0.7:5000/', 'http://plain:1/'],
  ['10.0.0.7', 'http://10.0.0.70/', 'http://plain:1/'],
  ['10.0.0.0/8', 'http://10.1.2.3/', undefined],
  ['10.0.0.0/8', 'http://11.1.2.3/', 'http://plain:1/'],
  ['10.0.0.0/8', 'http://ten.example/', 'http://plain:1/'],
  ['fd00::/8', 'http://[fd12::1]/', undefined],
  ['[fd12::1]:5000', 'http://[fd12::1]:5000/', undefined],
  ['fd12::1', 'http://[fd12::1]/', undefined],
  ['10.0.0.0/99,:80,.', 'http://a.example/', 'http://plain:1/'],
] as const) {
  test(`createProxyChoice without a proxy for ${JSON.stringify(except)}: ${url}`, () => {
    assert.equal(createProxyChoice({ ...PROXIES, except })(new URL(url))?.href, proxy)
  })
}

test('createProxyChoice takes a proxy without a scheme for HTTP, and none that is no URL', () => {
  const url = new URL('http://a.example')
  assert.equal(createProxyChoice({ http: 'user:secret@p:3128' })(url)?.href, 'http://user:secret@p:3128/')
  assert.equal(createProxyChoice({ http: '' })(url), undefined)
  for (const http of ['http://[', 'http://user:100%@p:3128', 'user:%zz@p:3128'])
    assert.equal(createProxyChoice({ http })(url), undefined)
  assert.equal(createProxyChoice({ https: 'p:1' })(url), undefined)
})

test('createProxyChoice reads any list, and what it lists by name has no proxy', () => {
  const names = fc.array(fc.domain(), { minLength: 1, maxLength: 4 })
  fc.assert(
    fc.property(names, fc.array(fc.string(), { maxLength: 3 }), (names, others) => {
      const choose = createProxyChoice({ ...PROXIES, except: [...others, ...names].join(',') })
      for (const name of names) assert.equal(choose(new URL(`https://${name}`)), undefined, name)
    }),
  )
})
