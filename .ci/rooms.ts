/**
 * Prints the rooms of lib/ and who imports whom as a Mermaid diagram, for CONTRIBUTING.md (a test compares them): `node .ci/rooms.ts`.
 * An arrow that follows from two others is left out.
 */
import { ROOMS } from '../tests/unit/rooms.ts'

/** The diagram, without the fence around it. */
export function drawRooms(): string {
  const reaches = (from: string, to: string): boolean =>
    (ROOMS[from] ?? []).some((next) => next === to || reaches(next, to))
  const arrows = Object.entries(ROOMS).flatMap(([room, seen]) =>
    seen.filter((to) => !seen.some((other) => other !== to && reaches(other, to))).map((to) => `  ${room} --> ${to}`),
  )
  return ['graph TD', ...arrows, ''].join('\n')
}

if (import.meta.main) process.stdout.write(drawRooms())
