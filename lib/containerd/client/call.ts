import { ContainerdError, containerdError } from './error.ts'

/** Makes one unary call. A failure becomes a ContainerdError, an abort keeps the signal's reason. */
export async function call<T>(name: string, signal: AbortSignal, make: () => Promise<T>): Promise<T> {
  signal.throwIfAborted()
  try {
    return await make()
  } catch (error) {
    signal.throwIfAborted()
    throw containerdError(name, error)
  }
}

/** Like {@link call}, with `undefined` for what is not there. */
export async function found<T>(name: string, signal: AbortSignal, make: () => Promise<T>): Promise<T | undefined> {
  try {
    return await call(name, signal, make)
  } catch (error) {
    if (error instanceof ContainerdError && error.code === 'not-found') return undefined
    throw error
  }
}

/** A 64-bit count or size as a number. */
export function numberOf(value: bigint): number {
  const number = Number(value)
  if (Number.isSafeInteger(number) && number >= 0) return number
  throw new ContainerdError('unexpected', `containerd gave ${value} where a count was expected`)
}
