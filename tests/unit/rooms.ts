/** The rooms that each room may import. A room is a folder of lib/; `main` is main.ts, `proto` the generated code. */
export const ROOMS: Readonly<Record<string, readonly string[]>> = {
  main: ['commands', 'platform'],
  commands: ['settings', 'mirror', 'containerd', 'store', 'platform', 'observe', 'oci'],
  mirror: [
    ...['settings', 'http', 'page', 'containerd', 'upstream', 'transfer', 'flight', 'peers', 'swarm', 'store'],
    ...['platform', 'observe', 'oci'],
  ],
  http: ['upstream', 'transfer', 'peers', 'store', 'platform', 'observe', 'oci'],
  page: ['http', 'upstream', 'transfer', 'peers', 'swarm', 'store', 'platform', 'observe', 'oci'],
  containerd: ['settings', 'upstream', 'store', 'platform', 'observe', 'toml', 'oci', 'proto'],
  settings: ['swarm', 'platform', 'observe', 'oci'],
  upstream: ['platform', 'observe'],
  transfer: ['flight', 'peers', 'swarm', 'platform', 'observe', 'oci'],
  flight: ['swarm', 'store', 'platform', 'observe', 'oci'],
  peers: ['swarm', 'platform', 'observe', 'oci'],
  swarm: ['udx', 'platform', 'observe', 'oci'],
  store: ['platform', 'observe', 'oci'],
  observe: ['platform', 'oci'],
  platform: [],
  udx: ['platform'],
  toml: [],
  oci: [],
}
