import * as dom from './client/dom.ts'
import * as format from './client/format.ts'
import * as main from './client/main.ts'
import * as pulls from './client/pulls.ts'
import * as sections from './client/sections.ts'
import * as swarm from './client/swarm.ts'
import * as traceView from './client/trace-view.ts'
import { STYLE } from './style.ts'

/**
 * The page without its content, which the script adds. The headings and labels for screen readers, and the text for browsers
 * without a script, are here.
 */
const DOCUMENT = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>swarmirror</title>
<link rel="icon" href="/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/page.css">
<script type="module" src="/page.js"></script>
</head>
<body>
<header>
<h1>swarmirror</h1>
<p id="node" class="mono"></p>
<p id="state" role="status"><noscript>This page needs JavaScript; <a href="/readyz">/readyz</a> does not.</noscript></p>
</header>
<main>
<section id="reasons" aria-label="Why it is not ready" hidden></section>
<section aria-label="Key figures"><dl id="figures"></dl></section>
<section aria-label="The last day" id="history"></section>
<section aria-labelledby="check-title" id="check" hidden><h2 id="check-title">Check of this node</h2><div id="findings"></div></section>
<section aria-labelledby="now-title" id="now" hidden><h2 id="now-title">Running now</h2><div id="running"></div></section>
<section aria-labelledby="pulls-title"><h2 id="pulls-title">Last pulls</h2><div id="pulls"></div></section>
<section aria-labelledby="trace-title" id="tracing"><h2 id="trace-title">Why was this slow?</h2>
<p class="muted">Goes the way of a pull without pulling: who has what, and how long they take to say so.</p>
<form id="trace"><label for="reference">Image</label>
<input id="reference" name="reference" required maxlength="700" autocomplete="off" autocapitalize="off" spellcheck="false" placeholder="docker.io/library/nginx:1.29">
<button type="submit">Trace</button></form>
<div id="steps" aria-live="polite"></div></section>
<section aria-labelledby="registries-title"><h2 id="registries-title">Registries</h2><div id="registries"></div></section>
<section aria-labelledby="swarm-title"><h2 id="swarm-title">Swarm</h2><p id="members" class="muted"></p>
<div id="swarm" class="nodes" role="group" aria-label="Nodes of the swarm" tabindex="0"></div></section>
<section aria-labelledby="held-title"><h2 id="held-title">Held here</h2><div id="held"></div></section>
</main>
<footer><p><a href="/metrics">Metrics</a> <a href="/readyz">Readiness</a> <span id="version"></span></p></footer>
</body>
</html>
`

/** Two nodes and the link between them, in a colour that is visible on light and dark. */
const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><g fill="none" stroke="#16858f" stroke-width="2"><circle cx="4" cy="8" r="2.5"/><circle cx="12" cy="8" r="2.5"/><path d="M6.5 8h3"/></g></svg>
`

/**
 * The page's script: the sources of the functions under client/ as the runtime has them, without types. It needs no file at run
 * time and no build, so it works from source and in a bundle. A bundler may rename functions, but does so everywhere.
 */
export function clientScript(): string {
  const functions = [format, dom, pulls, sections, swarm, traceView, main].flatMap((part) => Object.values(part))
  return `${functions.map(String).join('\n')}\n${main.start.name}()\n`
}

/** All files of the page; its data comes from `/api/status`. */
export const ASSETS = [
  { path: '/', type: 'text/html; charset=utf-8', text: DOCUMENT },
  { path: '/page.css', type: 'text/css; charset=utf-8', text: STYLE },
  { path: '/page.js', type: 'text/javascript; charset=utf-8', text: clientScript() },
  { path: '/icon.svg', type: 'image/svg+xml', text: ICON },
] as const
