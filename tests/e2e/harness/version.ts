import { runSync } from './command.ts'

/** The containerd that comes first in PATH: 1.7 of the machine's packages, or 2.1 as `.ci/containerd-2` fetches it. */
export const CONTAINERD = readVersion()

interface Version {
  /** As containerd gives it, without a leading `v`: `1.7.24~ds1`, `2.1.9+unknown`. */
  readonly text: string
  readonly major: 1 | 2
}

/** What containerd 1 and containerd 2 do differently, said where a test depends on it. */
export function byMajor<T>(values: { readonly 1: T; readonly 2: T }): T {
  return values[CONTAINERD.major]
}

function readVersion(): Version {
  const { stdout, stderr } = runSync('containerd', ['--version'])
  const [, text, major] = /^containerd \S+ v?((\d+)\.\S+)/.exec(stdout) ?? []
  if (text === undefined || (major !== '1' && major !== '2')) {
    throw new Error(`expected a containerd 1 or 2 in PATH, and it says: ${stdout}${stderr}`)
  }
  return { text, major: major === '1' ? 1 : 2 }
}
