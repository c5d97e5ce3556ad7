import type { NodeStatus, Status } from '../status.ts'
import { breakable, type Child, make, table } from './dom.ts'
import { formatCount, formatHost, formatRate, formatTime } from './format.ts'

/** Names of nodes by their addresses, as far as they are known. */
export type Names = Readonly<Record<string, string>>

export function nodeNames({ swarm }: Status): Names {
  // Without a prototype: the address that a follower claims may be any text, such as `constructor`.
  const names: Record<string, string> = Object.create(null)
  for (const { address, told } of swarm.nodes) if (told !== undefined) names[address] = told.name
  return names
}

/** A node, by its name without the domain. Pointing at it shows the full name and the address. */
export function nodeName(name: string, address: string): HTMLElement {
  const shown = make('span', 'name', formatHost(name))
  shown.title = `${name} ${address}`
  return shown
}

/** How many members there are, and those that do not answer or run another version. */
export function members({ swarm }: Status): Child[] {
  const { size, connected, versions, nodes } = swarm
  const mute = nodes.filter(({ isMute }) => isMute).length
  const told = versions.map(([version, members]) => (versions.length === 1 ? version : `${version} on ${members}`))
  const children = [
    formatCount(size, 'node', 'nodes'),
    `${connected} connected to this one`,
    mute > 0 && make('span', 'careful', `${mute} without an answer`),
    told.length > 0 && make('span', versions.length > 1 ? 'careful' : '', `version ${told.join(', ')}`),
  ]
  return children.flatMap((child, at) => (child === false ? [] : at === 0 ? [child] : [', ', child]))
}

/** Every node, with what it tells about itself and its state as a peer. */
export function swarm({ swarm, time, node }: Status): Child[] {
  const rows = swarm.nodes.map((one) => {
    const { address, told, peer } = one
    const isSelf = address === node.address
    return [
      told === undefined
        ? breakable(address)
        : make('div', '', nodeName(told.name, address), make('span', 'muted', breakable(address))),
      stateOf(one, isSelf),
      told?.version ?? '',
      told?.runtime ?? '',
      told === undefined ? '' : String(told.held),
      told === undefined ? '' : String(told.transfers),
      told === undefined ? '' : formatTime(Math.max(time - told.startedAt, 1000)),
      peer?.headMs === undefined ? '' : formatTime(peer.headMs),
      peer?.rate === undefined ? '' : formatRate(peer.rate * 1e6, 1e6),
    ]
  })
  const columns = {
    ...{ node: 'mono', state: '', version: 'wide', runtime: 'wide', holds: 'number', gives: 'number wide' },
    ...{ 'up for': 'number wide', 'first byte': 'number wide', rate: 'number' },
  }
  const { more } = swarm
  return [table('Nodes', columns, rows, 'swarm'), more > 0 && make('p', 'muted more', `and ${more} more`)]
}

/** The state of a node, for this one: its problem now, or a recent one. */
export function stateOf({ peer, isMute, told }: NodeStatus, isSelf: boolean): HTMLElement {
  const { asideMs = 0, failure, isBusy = false } = peer ?? {}
  if (isSelf) return make('span', 'good', 'this node')
  if (asideMs > 0) return make('span', 'wrong', `put aside for ${formatTime(asideMs)}: ${failure?.why ?? 'gone'}`)
  if (failure !== undefined && failure.agoMs < 60000)
    return make('span', 'wrong', `failed ${formatTime(failure.agoMs)} ago: ${failure.why}`)
  if (isMute) return make('span', 'careful', 'no answer')
  if (isBusy) return make('span', 'careful', 'busy')
  if (failure !== undefined && failure.agoMs < 600000)
    return make('span', 'careful', `good, failed ${formatTime(failure.agoMs)} ago`)
  return make('span', '', peer === undefined && told === undefined ? 'not asked yet' : 'good')
}
