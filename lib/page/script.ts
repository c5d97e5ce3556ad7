import * as dom from './client/dom.ts'
import * as format from './client/format.ts'
import * as main from './client/main.ts'
import * as sections from './client/sections.ts'
import * as traceView from './client/trace-view.ts'

/**
 * The page's script: the sources of the functions under client/ as the runtime has them, with their types taken off. There
 * is not a file to read at run time and nothing to build, so it is the same from source and in one bundled file, where a
 * bundler may have renamed functions, but then in all of them alike.
 */
export function clientScript(): string {
  const functions = [format, dom, sections, traceView, main].flatMap((part) => Object.values(part))
  return `${functions.map(String).join('\n')}\n${main.start.name}()\n`
}
