/**
 * Makes the README's picture of the page (`npm run pictures`): an SVG with the page as text, of real mirrors after a pull.
 * A picture of pixels would be a generated binary; this one is read, searched and compared like a source, and light or dark
 * as its reader is.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { STYLE } from '../../lib/page/style.ts'
import { makeImage, withTemporaryDirectory, writeLayout } from '../fixtures/image.ts'
import { startMirrorProcess } from '../fixtures/mirror-process.ts'
import { commandOf, MAIN } from '../fixtures/process.ts'
import { waitFor } from '../fixtures/wait.ts'
import { BROWSER_PATIENCE, openPage, trace, withBrowser } from './browser.ts'

const PICTURES = new URL('../../lib/page/pictures/', import.meta.url)
const WIDTH = 1000
const REGISTRY = 'registry.example'
const IMAGES = [
  { repository: 'team/web', tag: '2.4', image: makeImage({ seed: 1, layers: 4, layerSize: 9_000_000 }) },
  { repository: 'team/worker', tag: '7', image: makeImage({ seed: 2, layers: 2, layerSize: 4_000_000 }) },
]

await withTemporaryDirectory(async (dir) => {
  await using mirrors = new AsyncDisposableStack()
  let count = 0
  const start = async (images: typeof IMAGES, bootstrap: readonly string[]) => {
    const layout = join(dir, String(++count))
    await writeLayout(
      layout,
      images.map(({ image, repository, tag }) => ({ image, names: [`${REGISTRY}/${repository}:${tag}`] })),
    )
    // Each on an address of its own, as nodes are; all of 127.0.0.0/8 is this machine.
    const host = `127.0.0.1${count}`
    const doors = ['--listen', `${host}:0`, '--peer-listen', `${host}:5001`, '--admin-listen', `${host}:0`]
    const flags = ['--store', `oci-layout:${layout}`, '--resolve', 'swarm', '--lookup-timeout', '1s', ...doors]
    if (bootstrap.length > 0) flags.push('--bootstrap', bootstrap.join(','))
    const mirror = await startMirrorProcess(commandOf(MAIN), flags, {}, AbortSignal.timeout(BROWSER_PATIENCE))
    mirrors.defer(() => mirror.kill())
    return mirror
  }
  const one = await start(IMAGES, [])
  const other = await start(IMAGES.slice(0, 1), [one.peer])
  const asker = await start(IMAGES.slice(1), [one.peer, other.peer])
  const get = async (repository: string, path: string) => {
    const answer = await fetch(`http://${asker.registry}/v2/${repository}/${path}?ns=${REGISTRY}`)
    await answer.arrayBuffer()
    return answer.ok
  }
  for (const { repository, tag, image } of [...IMAGES].reverse()) {
    await waitFor(`${repository} is found`, () => get(repository, `manifests/${tag}`))
    for (const { descriptor } of image.contents) {
      await get(repository, `${descriptor.mediaType.includes('manifest') ? 'manifests' : 'blobs'}/${descriptor.digest}`)
    }
  }
  await withBrowser(async (browser) => {
    const open = await openPage(browser, `http://${asker.admin}/`, { width: WIDTH })
    await open.textOf('#members', /3 nodes, .*version/)
    await open.textOf('#pulls', /layer/)
    await trace(open, `${REGISTRY}/${IMAGES[0]?.repository}:${IMAGES[0]?.tag}`)
    // All three run on this machine, whose name they tell: in the picture they have names as nodes do.
    const names = [one, other, asker].map(({ peer }, at) => [peer, `worker-${at + 1}`] as const)
    const { markup, height } = await open.page.evaluate((names) => {
      for (const [address, name] of names) {
        for (const shown of document.querySelectorAll(`[title$=" ${address}"]`)) {
          shown.textContent = name
          shown.removeAttribute('title')
        }
      }
      const height = Math.ceil(document.documentElement.scrollHeight)
      for (const script of document.querySelectorAll('script, noscript, link, meta')) script.remove()
      // What is typed into a field is no attribute of it, and so would not be drawn.
      for (const field of document.querySelectorAll('input')) field.setAttribute('value', field.value)
      const body = document.createElement('div')
      body.className = 'body'
      body.append(...document.body.childNodes)
      document.body.append(body)
      return { markup: new XMLSerializer().serializeToString(body), height }
    }, names)
    // In a picture there is neither :root nor body: their rules go to the elements that stand for them.
    const style = STYLE.replaceAll(':root', '.picture')
      .replace(/^html .*$/m, '')
      .replace(/^( *)body \{/gm, '$1.body {')
    await mkdir(PICTURES, { recursive: true })
    await writeFile(
      new URL('page.svg', PICTURES),
      `<svg xmlns="http://www.w3.org/2000/svg" class="picture" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img">
<title>The page of a mirror: ready, its figures, its last day, its last pulls, a trace, the nodes of the swarm and what it holds</title>
<style>
${style.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}.body { min-height: ${height}px; background: var(--ground); }
</style>
<rect width="100%" height="100%" style="fill: var(--ground)"/>
<foreignObject width="${WIDTH}" height="${height}">${markup.replaceAll('><', '>\n<')}</foreignObject>
</svg>
`,
    )
    console.log(`lib/page/pictures/page.svg: ${WIDTH} x ${height}`)
  })
})
