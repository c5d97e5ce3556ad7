import { runSync } from './command.ts'

/** The first containerd in PATH: 1.7 from the machine's packages, or 2.1 from `.ci/containerd-2`. */
export const CONTAINERD = readVersion()

interface Version {
  /** As containerd reports it, without a leading `v`: `1.7.24~ds1`, `2.1.9+unknown`. */
  readonly text: string
  readonly major: 1 | 2
}

/** Picks the value for the running containerd, where a test depends on what containerd 1 and 2 do differently. */
export function byMajor<T>(values: { readonly 1: T; readonly 2: T }): T {
  return values[CONTAINERD.major]
}

function readVersion(): Version {
  const { stdout, stderr } = runSync('containerd', ['--version'])
  const [, text, major] = /^containerd \S+ v?((\d+)\.\S+)/.exec(stdout) ?? []
  if (text === undefined || (major !== '1' && major !== '2')) {
    throw new Error(`expected a containerd 1 or 2 in PATH, but it says: ${stdout}${stderr}`)
  }
  return { text, major: major === '1' ? 1 : 2 }
}
