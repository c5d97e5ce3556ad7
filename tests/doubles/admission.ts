import type { Admission } from '../../lib/platform/listener.ts'

/** The admission of a server without bounds. It does not tell when an exchange has ended. */
export function freeAdmission(): Admission {
  return {
    take: () => true,
    trust: () => undefined,
    mayBegin: () => true,
    givesPart: () => undefined,
    ended: new Promise(() => undefined),
  }
}
