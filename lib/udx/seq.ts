/**
 * Arithmetic on packet numbers, which count modulo 2^32: `a` is before `b` if going forward from `a` to `b` is shorter than
 * going backward (RFC 1982 with 32 bits, as TCP does in RFC 9293, section 3.4).
 */

/** `a - b` as a signed number in [-2^31, 2^31). */
export function seqDiff(a: number, b: number): number {
  return (a - b) | 0
}

/** Whether `a` comes before `b`. */
export function seqBefore(a: number, b: number): boolean {
  return ((a - b) | 0) < 0
}

/** `seq + n`, wrapped. `n` may be negative. */
export function seqAdd(seq: number, n: number): number {
  return (seq + n) >>> 0
}
