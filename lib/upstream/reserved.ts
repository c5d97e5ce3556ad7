import { BlockList, isIPv6 } from 'node:net'

/**
 * Addresses that no registry of a cluster has, and behind which something else may be: this host, its link (where clouds
 * keep credentials), multicast, documentation, benchmarks, what is not assigned (the IANA's special-purpose registries for
 * IPv4 and IPv6). Private networks are not among them: registries are there.
 */
const RESERVED = [
  ...['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '192.0.0.0/24', '192.0.2.0/24', '192.88.99.0/24', '198.18.0.0/15'],
  ...['198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/3'],
  ...['::/96', '64:ff9b:1::/48', '100::/64', '2001::/23', '2001:db8::/32', '2002::/16', 'fe80::/9', 'ff00::/8'],
] as const

const LIST = new BlockList()
for (const network of RESERVED) {
  const [address = '', bits] = network.split('/')
  LIST.addSubnet(address, Number(bits), isIPv6(address) ? 'ipv6' : 'ipv4')
  // The same by NAT64 (RFC 6052), as nodes without IPv4 reach it.
  if (!isIPv6(address)) LIST.addSubnet(`64:ff9b::${address}`, 96 + Number(bits), 'ipv6')
}

/** Whether an address is one that a registry cannot have. An IPv4 address within IPv6 counts as what it is. */
export function isReserved(address: string): boolean {
  return LIST.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')
}
