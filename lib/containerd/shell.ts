/** One word for a shell, quoted where it must be: names come from directories and settings that others chose. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
