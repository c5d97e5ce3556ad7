import { ContainerdError } from './error.ts'

/** A 64-bit count as a number. */
export function count(value: bigint): number {
  const number = Number(value)
  if (Number.isSafeInteger(number) && number >= 0) return number
  throw new ContainerdError('unexpected', `containerd gave ${value} where a size was expected`)
}
