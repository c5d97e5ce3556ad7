import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isReserved } from '../../../lib/upstream/probe.ts'

test('isReserved knows addresses of this host, its link, groups and examples, in IPv4, in IPv6 and in both', () => {
  for (const address of [
    ...['0.0.0.0', '127.0.0.1', '127.255.1.2', '169.254.169.254', '192.0.2.1', '198.19.0.1', '203.0.113.9'],
    ...['224.0.0.1', '240.0.0.1', '255.255.255.255', '::', '::1', '::127.0.0.1', 'fe80::1', 'febf::1', 'ff02::1'],
    ...['2001:db8::1', '2002:7f00:1::', '::ffff:127.0.0.1', '::ffff:169.254.169.254', '64:ff9b::127.0.0.1'],
    ...['64:ff9b::a9fe:a9fe', 'fec0::1'],
  ])
    assert.equal(isReserved(address), true, address)
})

test('isReserved lets registries be on public and on private networks', () => {
  for (const address of [
    ...['1.1.1.1', '10.0.0.1', '100.64.0.1', '172.16.0.1', '192.168.1.1', '223.255.255.255', '198.20.0.1'],
    ...['2600::1', 'fd00::1', '::ffff:10.0.0.1', '64:ff9b::8.8.8.8', '2001:4860::8888'],
  ])
    assert.equal(isReserved(address), false, address)
})
