/**
 * What a changelog says of one version: everything below its heading, `## VERSION` with or without more words.
 *
 * @throws {Error} when it says nothing of it
 */
export function notesOf(changelog: string, version: string): string {
  const [, ...sections] = `\n${changelog}`.split(/\n(?=## )/)
  const section = sections.find((text) => text.split(/\s+/, 2)[1] === version)
  const notes = section?.slice(section.indexOf('\n') + 1).trim()
  if (section === undefined || !section.includes('\n') || notes === '') {
    throw new Error(`CHANGELOG.md has no section "## ${version}" that says anything`)
  }
  return `${notes}\n`
}
