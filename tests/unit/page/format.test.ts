import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  formatBytes,
  formatDigest,
  formatHost,
  formatRate,
  formatShare,
  formatTime,
} from '../../../lib/page/client/format.ts'

test('formatBytes gives three significant digits, in binary units', () => {
  const cases = [
    [0, '0 B'],
    [999, '999 B'],
    [1000, '0.98 KiB'],
    [1536, '1.50 KiB'],
    [12_000_000, '11.4 MiB'],
    [2 ** 30, '1.00 GiB'],
    [200 * 2 ** 40, '200 TiB'],
    [2 ** 60, '1048576 TiB'],
  ] as const
  for (const [bytes, text] of cases) assert.equal(formatBytes(bytes), text)
})

test('formatTime gives times as people say them', () => {
  const cases = [
    [-3_600_000, '0.0 ms'],
    [0.04, '0.0 ms'],
    [9.96, '10.0 ms'],
    [12.3, '12 ms'],
    [1_500, '1.5 s'],
    [59_000, '59 s'],
    [90_000, '2 min'],
    [3_600_000, '1 h'],
    [49 * 3_600_000, '2 d'],
  ] as const
  for (const [ms, text] of cases) assert.equal(formatTime(ms), text)
})

test('formatRate is empty if there is too little to measure', () => {
  assert.equal(formatRate(100, 50), '')
  assert.equal(formatRate(10_000_000, 0.5), '')
  assert.equal(formatRate(10 * 2 ** 20, 1_000), '10.0 MiB/s')
})

test('formatShare shows 100 % only for nearly the whole', () => {
  const cases = [
    [0, 0, '–'],
    [0, 5, '0 %'],
    [5, 5, '100 %'],
    [7, 8, '87.5 %'],
    [9_999, 10_000, '100 %'],
    [1, 3, '33.3 %'],
  ] as const
  for (const [part, whole, text] of cases) assert.equal(formatShare(part, whole), text)
})

test('formatDigest is short, and leaves other text unchanged', () => {
  assert.equal(formatDigest(`sha256:${'0123456789abcdef'.repeat(4)}`), '0123456789ab')
  assert.equal(formatDigest('abc'), 'abc')
})

test('formatHost leaves out the domain, but keeps addresses', () => {
  const cases = [
    ['worker-1', 'worker-1'],
    ['ip-10-0-0-1.eu-central-1.compute.internal', 'ip-10-0-0-1'],
    ['10.0.0.1', '10.0.0.1'],
    ['.', '.'],
  ] as const
  for (const [name, text] of cases) assert.equal(formatHost(name), text)
})
