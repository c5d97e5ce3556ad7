import type { ContainerdClient } from '../client/client.ts'
import type { CriClient } from '../client/cri.ts'
import { ContainerdError } from '../client/error.ts'
import type { ContainerdFacts, Fact } from './containerd-facts.ts'

/**
 * Asks a running containerd what it tells of itself. A part that it refuses, or that its version does not have, is
 * unreadable by itself.
 *
 * @throws the signal's reason
 */
export async function askContainerd(
  client: Pick<ContainerdClient, 'version' | 'plugins'>,
  cri: Pick<CriClient, 'info'>,
  signal: AbortSignal,
): Promise<ContainerdFacts> {
  const [version, criConfig, plugins] = await Promise.all([
    fact(async () => (await client.version(signal)).version),
    fact(async () => parseConfig((await cri.info(signal)).config)),
    fact(() => client.plugins(signal)),
  ])
  signal.throwIfAborted()
  return { version, criConfig, plugins }
}

async function fact<T>(ask: () => Promise<T>): Promise<Fact<T>> {
  try {
    return { value: await ask() }
  } catch (error) {
    if (error instanceof ContainerdError || error instanceof SyntaxError) return { unreadable: error.message }
    throw error
  }
}

function parseConfig(text: string | undefined): unknown {
  if (text === undefined) throw new SyntaxError('the CRI status has no config')
  return JSON.parse(text)
}
