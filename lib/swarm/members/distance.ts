/** The first 32 bits of an id or a topic, as an unsigned number: nearly always enough to compare. */
export function prefixOf(id: Uint8Array): number {
  return (((id[0] ?? 0) << 24) | ((id[1] ?? 0) << 16) | ((id[2] ?? 0) << 8) | (id[3] ?? 0)) >>> 0
}

/** The distance of two prefixes in Kademlia's metric. */
export function prefixDistance(a: number, b: number): number {
  return (a ^ b) >>> 0
}

/** Negative if `a` is closer to the target than `b` in Kademlia's metric, XOR; 0 only if they are equal. */
export function compareDistance(target: Uint8Array, a: Uint8Array, b: Uint8Array): number {
  for (let at = 0; at < target.length; at++) {
    const byte = target[at] ?? 0
    const difference = ((a[at] ?? 0) ^ byte) - ((b[at] ?? 0) ^ byte)
    if (difference !== 0) return difference
  }
  return 0
}

export function compareIds(a: Uint8Array, b: Uint8Array): number {
  for (let at = 0; at < a.length; at++) {
    const difference = (a[at] ?? 0) - (b[at] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}
