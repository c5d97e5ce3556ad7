/**
 * The look of the page: one column of plain tables with aligned figures, one accent colour, and two more for problems. Text has
 * a contrast of at least 4.5 to 1 in both colour schemes.
 */
export const STYLE = `:root {
  color-scheme: light dark;
  --ground: #fcfcfb; --text: #1b1f23; --muted: #5b636c; --line: #e2e4e6; --soft: #f2f3f3;
  --accent: #0b6a73; --wrong: #b3261e; --careful: #855400;
  --mono: ui-monospace, "SF Mono", SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171a; --text: #e4e7ea; --muted: #98a1aa; --line: #2a2f35; --soft: #1c2024;
    --accent: #58c2cb; --wrong: #ff8a80; --careful: #e5b567;
  }
}
* { box-sizing: border-box; }
html { background: var(--ground); -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 28px 24px 40px; max-width: 1040px; background: var(--ground); color: var(--text);
  font: 14px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
h1, h2, p, dl, dd, ul, ol { margin: 0; padding: 0; }
h1 { font-size: 17px; font-weight: 650; letter-spacing: -0.01em; }
h2 { font-size: 14px; font-weight: 650; margin-bottom: 6px; }
a { color: var(--accent); text-underline-offset: 2px; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 2px; }
[hidden] { display: none !important; }
.muted { color: var(--muted); }
.mono { font-family: var(--mono); font-size: 12.5px; }
.wrong { color: var(--wrong); }
.careful { color: var(--careful); }
.good { color: var(--accent); }
.name { overflow-wrap: anywhere; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 2px 14px; }
header #node { color: var(--muted); }
#state { margin-left: auto; font-weight: 600; }
#state::before {
  content: ""; display: inline-block; width: 8px; height: 8px; margin-right: 7px; border-radius: 50%;
  background: currentColor; vertical-align: 1px;
}
#state:empty, #state:has(noscript) { font-weight: 400; }
#state:empty::before, #state:has(noscript)::before { display: none; }
main > section { margin-top: 30px; }
main > section:first-child, main > section:has(#figures) { margin-top: 20px; }
#reasons { border-left: 3px solid var(--wrong); padding: 2px 0 2px 12px; }
#reasons li { list-style: none; overflow-wrap: anywhere; }
#figures { display: grid; grid-template-columns: repeat(5, 1fr); border: solid var(--line); border-width: 1px 0; }
#figures div { display: flex; flex-direction: column; padding: 12px 16px 13px; border-left: 1px solid var(--line); }
#figures div:first-child { padding-left: 0; border-left: 0; }
#figures dt { color: var(--muted); font-size: 12.5px; }
#figures dd { font-size: 21px; font-weight: 600; line-height: 1.35; letter-spacing: -0.015em; white-space: nowrap; }
#figures dd.note { font-size: 12.5px; font-weight: 400; letter-spacing: 0; line-height: 1.45; color: var(--muted); white-space: normal; }
#history { display: grid; grid-template-columns: repeat(3, 1fr); gap: 24px; }
figure { margin: 0; min-width: 0; }
figcaption { display: flex; justify-content: space-between; gap: 8px; font-size: 12.5px; }
figure svg { display: block; width: 100%; height: 44px; margin: 4px 0 3px; border-bottom: 1px solid var(--muted); }
.scale { display: flex; justify-content: space-between; gap: 8px; font-size: 12px; white-space: nowrap; }
.key::before { content: ""; display: inline-block; width: 8px; height: 8px; margin-right: 4px; background: var(--accent); }
.key.local::before { background: var(--muted); }
.key.upstream::before { background: var(--careful); }
table { width: 100%; border-collapse: collapse; }
th { font-weight: 400; font-size: 12.5px; color: var(--muted); text-align: left; white-space: nowrap; }
th, td { padding: 4px 16px 4px 0; border-bottom: 1px solid var(--line); vertical-align: baseline; }
th:last-child, td:last-child { padding-right: 0; }
tbody tr:last-child td, tbody tr:last-child th { border-bottom: 0; }
tbody th { color: inherit; font-size: inherit; white-space: normal; }
tbody th.mono { font-size: 12.5px; }
.more { padding-top: 4px; }
.nodes { max-height: 560px; overflow: auto; margin-top: 4px; border-bottom: 1px solid var(--line); }
.swarm thead th { position: sticky; top: 0; background: var(--ground); }
.swarm th .muted { margin-left: 10px; font-size: 12px; }
.swarm td { white-space: nowrap; }
.swarm td:nth-child(2) { white-space: normal; }
.number { text-align: right; white-space: nowrap; }
.parts { table-layout: fixed; }
.parts th:nth-child(1) { width: 20%; }
.parts th:nth-child(2) { width: 32%; }
.parts th:nth-child(7) { width: 13%; }
.peers .name { font-family: var(--mono); font-size: 12.5px; }
.timeline { display: block; width: 100%; height: 12px; }
rect.peer, rect.given { fill: var(--accent); }
rect.local { fill: var(--muted); }
rect.upstream { fill: var(--careful); }
rect.failed, rect.failures { fill: var(--wrong); }
progress { display: block; width: 100%; height: 6px; border: 0; border-radius: 3px; overflow: hidden; background: var(--line); accent-color: var(--accent); }
progress::-webkit-progress-bar { background: var(--line); }
progress::-webkit-progress-value { background: var(--accent); }
progress::-moz-progress-bar { background: var(--accent); }
.running td { vertical-align: middle; }
.running td:nth-child(2) { width: 22%; }
.answers div > div { display: flex; flex-wrap: wrap; gap: 0 14px; justify-content: space-between; }
.answers { min-width: 0; }
td.answers, th.answers { width: 34%; white-space: normal; }
.none::before { content: "\\2013"; color: var(--muted); }
details { border-top: 1px solid var(--line); }
#pulls > details:last-child, #findings > details:last-child { border-bottom: 1px solid var(--line); }
summary { display: flex; flex-wrap: wrap; gap: 0 16px; align-items: baseline; padding: 7px 0; cursor: pointer; list-style: none; }
summary::-webkit-details-marker { display: none; }
summary::before { content: "\\203A"; width: 10px; margin-right: -8px; color: var(--muted); }
details[open] > summary::before { transform: rotate(90deg); transform-origin: 3px 55%; }
summary:hover .name { color: var(--accent); }
summary .name { flex: 1 1 320px; font-weight: 550; }
summary .when { min-width: 76px; text-align: right; color: var(--muted); }
details > .inside { padding: 0 0 10px 18px; }
.inside dl { display: grid; grid-template-columns: 76px 1fr; gap: 3px 12px; }
.inside dt { color: var(--muted); }
.inside dd { overflow-wrap: anywhere; }
.inside pre, .inside dd pre { margin: 0; font: 12.5px/1.5 var(--mono); white-space: pre-wrap; overflow-wrap: anywhere; }
.severity { width: 64px; }
form { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; margin: 10px 0 12px; }
label { color: var(--muted); }
input, button { font: inherit; color: inherit; border: 1px solid var(--line); border-radius: 5px; padding: 6px 10px; background: var(--ground); }
input { flex: 1 1 260px; min-width: 0; font-family: var(--mono); font-size: 13px; border-color: var(--muted); }
input::placeholder { color: var(--muted); opacity: 1; }
button { padding-inline: 18px; font-weight: 600; color: var(--ground); background: var(--accent); border-color: var(--accent); cursor: pointer; }
button:disabled { opacity: 0.55; cursor: default; }
#steps > p { padding-bottom: 6px; }
ul.images { columns: 2; column-gap: 32px; list-style: none; max-height: 320px; overflow-y: auto; margin-top: 8px; }
ul.images li { padding: 2px 0; overflow-wrap: anywhere; break-inside: avoid; }
footer { margin-top: 36px; padding-top: 10px; border-top: 1px solid var(--line); color: var(--muted); font-size: 12.5px; }
footer p { display: flex; flex-wrap: wrap; gap: 16px; }
footer span { margin-left: auto; }
@media (max-width: 760px) {
  body { padding: 18px 16px 32px; }
  #state { margin-left: 0; flex-basis: 100%; }
  #figures { grid-template-columns: 1fr 1fr; }
  #figures div, #figures div:first-child { padding: 9px 0 10px; border: solid var(--line); border-width: 0 0 1px; }
  #figures div:nth-child(even) { padding-left: 14px; }
  #figures div:last-child { grid-column: 1 / -1; border-bottom: 0; }
  #history { grid-template-columns: 1fr; gap: 14px; }
  .wide { display: none; }
  th, td { padding-right: 10px; }
  details > .inside { padding-left: 0; }
  .inside dl { grid-template-columns: 1fr; }
  .parts th:nth-child(1) { width: 30%; }
  .parts th:nth-child(2) { width: 35%; }
  .parts th:nth-child(3) { width: 19%; }
  .parts td:nth-child(3), .parts td:nth-child(5) { white-space: normal; }
  .swarm th .muted { display: block; margin-left: 0; }
  .swarm th:nth-child(1) { min-width: 128px; }
  .running { table-layout: fixed; }
  .running tbody th, .running td { overflow-wrap: anywhere; white-space: normal; }
  .running th:nth-child(1) { width: 38%; }
  .running th:nth-child(4) { width: 18%; }
  .running th:nth-child(5) { width: 22%; }
  .running td:nth-child(2) { width: auto; }
  #steps tbody th .muted { display: block; }
  #steps tbody th, #steps td, .parts tbody th, .parts td { overflow-wrap: anywhere; }
  #steps table { table-layout: fixed; }
  #steps th:nth-child(1) { width: 29%; }
  #steps th:nth-child(3) { width: 14%; }
  #steps th:nth-child(4) { width: 18%; }
  td.answers, th.answers { width: 39%; }
  ul.images { columns: 1; }
  summary .name { flex-basis: 100%; margin-left: 0; }
  summary::before { position: absolute; margin-left: -11px; }
  summary .when { min-width: 0; margin-left: auto; }
}
@media print { form { display: none; } }
`
