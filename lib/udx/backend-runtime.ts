import type { Backend } from './backend.ts'
import { bunBackend } from './backend-bun.ts'
import { nodeBackend } from './backend-node.ts'

/** The datagram sockets of the running runtime. */
export const runtimeBackend: Backend = 'Bun' in globalThis ? bunBackend : nodeBackend
