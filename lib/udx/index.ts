export type { DatagramBackend, DatagramSocket, OnDatagram } from './backend.ts'
export type { UDXSocket } from './socket.ts'
export type { UDXStream } from './stream.ts'
export { runtimeBackend, UDX } from './udx.ts'
