/** The page in a browser: of real mirrors, and of a status that has something of everything. */
import assert from 'node:assert/strict'
import { hostname } from 'node:os'
import { describe, it } from 'node:test'
import type { Tracer } from '../../lib/page/trace.ts'
import { makeImage } from '../fixtures/image.ts'
import { HELD_NAME, layerPath, TAG_PATH, withMirrors } from '../fixtures/mirrors.ts'
import { STATUS, withServedPage } from '../fixtures/page.ts'
import { waitFor } from '../fixtures/wait.ts'
import { type OpenOptions, openPage, overflow, skip, trace, withBrowser } from './browser.ts'
import { contrastProblems } from './contrast.ts'

/** Tells of every kind of answer that a peer can give. */
const traceOfEverything: Tracer = async (_, emit) => {
  emit({ step: 'name', name: 'docker.io/library/nginx:1.29', lookupTimeout: 100 })
  emit({ step: 'resolve', by: 'upstream' })
  const outcomes = ['content', 'missing', 'busy', 'silent', 'unreachable', 'invalid'] as const
  const answers = outcomes.map((outcome) => ({ address: '255.255.255.255:65535', outcome, headMs: 900, isAside: true }))
  const asked = { firstPeerMs: 400, lookupMs: 500, found: 6, answers, localMs: 1 }
  emit({
    step: 'part',
    part: { role: 'tag', key: 'docker.io/library/nginx:1.29-with-a-long-tag', isLocal: false, ...asked },
  })
  for (const role of ['index', 'manifest', 'config', 'layer'] as const) {
    emit({ step: 'part', part: { role, key: `sha256:${'a'.repeat(64)}`, size: 12_345_678, isLocal: true, ...asked } })
  }
  const unasked = { isLocal: false, localProblem: 'containerd does not answer within 2000 ms' }
  emit({ step: 'part', part: { role: 'layer', key: `sha256:${'b'.repeat(64)}`, ...asked, ...unasked } })
  emit({ step: 'end', ms: 2_000, problem: 'only the first 48 parts of 100 were looked at' })
}

const MARKUP = '<img src=x onerror="window.injected = true">'

describe('page of a mirror', { skip }, () => {
  it('shows that it is ready, a pull with its source, the peer, and a trace; nothing is refused by its policy', async () => {
    const image = makeImage({ layers: 2, layerSize: 2_000_000 })
    await withMirrors(async ({ start }) => {
      const holder = await start(image, {})
      const asker = await start(undefined, { bootstrap: holder.peer })
      const get = (path: string) => fetch(`http://${asker.registry}${path}`)
      await waitFor('the tag is found', async () => {
        const answer = await get(TAG_PATH)
        await answer.arrayBuffer()
        return answer.ok
      })
      await (await get(layerPath(image))).arrayBuffer()
      await withBrowser(async (browser) => {
        const open = await openPage(browser, `http://${asker.admin}/`)
        assert.equal(await open.textOf('#state', /^ready$/), 'ready')
        const pull = await open.textOf('#pulls details[open]', /layer/)
        assert.ok(pull.includes(HELD_NAME), pull)
        assert.match(pull, /1 tag/)
        // Both mirrors run on this machine, whose name they tell.
        const [name = ''] = hostname().split('.')
        assert.ok(pull.includes(holder.peer) || pull.includes(name), pull)
        assert.match(await open.textOf('#figures'), /Upstream was spared\s+1\.91 MiB/)
        const peers = await open.textOf('#swarm', /this node/)
        assert.ok(peers.includes(holder.peer), peers)
        await open.textOf('#members', /version/)
        const steps = await trace(open, HELD_NAME)
        assert.match(steps, /Of 5 parts, 0 held here, 5 to be had from peers, 0 only upstream/)
        assert.equal(steps.split(name).length - 1, 5)
        assert.match(await trace(open, 'Nonsense'), /invalid repository/)
        const own = await openPage(browser, `http://${holder.admin}/`)
        assert.match(await own.textOf('#held', /team/), /registry\.example\/team\/app:1/)
        assert.match(await trace(own, HELD_NAME), /Of 5 parts, 5 held here/)
        assert.deepEqual([...open.problems, ...own.problems], [])
        // The mirror goes, and the page says so; one that nobody looks at asks nothing.
        await open.page.bringToFront()
        await asker.kill()
        await open.textOf('#state', /no contact/)
      })
    })
  })
})

describe('page', { skip }, () => {
  const variants: readonly OpenOptions[] = [
    { scheme: 'light', width: 1120 },
    { scheme: 'dark', width: 1120 },
    { scheme: 'light', width: 360 },
    { scheme: 'dark', width: 360 },
  ]
  for (const options of variants) {
    it(`fits and can be read: ${options.scheme}, ${options.width} pixels wide`, async () => {
      await withServedPage(async ({ url }) => {
        await withBrowser(async (browser) => {
          const open = await openPage(browser, url, options)
          const { page, problems, textOf } = open
          await textOf('#state', /not ready/)
          const steps = await trace(open, 'a')
          assert.match(steps, /This node itself could not be asked: containerd does not answer/)
          assert.match(steps, /Upstream resolves it/)
          await page.evaluate(() => {
            for (const details of document.querySelectorAll('details')) details.open = true
          })
          assert.equal(await overflow(open), 0)
          assert.deepEqual(await contrastProblems(page), [])
          assert.deepEqual(problems, [])
        })
      }, traceOfEverything)
    })
  }

  it('shows what is wrong, and what to do', async () => {
    await withServedPage(async ({ url }) => {
      await withBrowser(async (browser) => {
        const { textOf } = await openPage(browser, url)
        assert.match(await textOf('#reasons'), /registry-config-path/)
        const findings = await textOf('#findings')
        assert.match(
          findings,
          /error\s+config_path is ""[\s\S]*expected[\s\S]*why[\s\S]*remedy\s+set it[\s\S]*warning[\s\S]*unknown/,
        )
        assert.match(findings, /1 check passed/)
        assert.match(
          await textOf('#registries'),
          /docker\.io\s+answers\s[\s\S]*upstream[\s\S]*registry\.example:5000\s+silent\s+10 s\s+swarm\s+.*no answer within 1000 ms/,
        )
        assert.match(
          await textOf('#swarm'),
          /10\.0\.0\.3:5001\s+put aside for 8\.0 s: silent[\s\S]*worker-2[\s\S]*failed 12 s ago: unreachable[\s\S]*busy[\s\S]*good[\s\S]*this node[\s\S]*and 2 more/,
        )
        assert.match(
          await textOf('#members'),
          /5 nodes, 2 connected to this one, 1 without an answer, version 0\.1\.0 on 3, 0\.0\.9 on 1/,
        )
        assert.match(
          await textOf('#pulls'),
          /2 broke off[\s\S]*upstream[\s\S]*this node[\s\S]*9\.54 MiB in 798 ms, then silent[\s\S]*worker-5[\s\S]*did not match its digest[\s\S]*upstream 14\.3 MiB, the rest/,
        )
        assert.match(
          await textOf('#history'),
          /Got by this node\s+6\.\d+ GiB[\s\S]*from peers[\s\S]*Given to other nodes[\s\S]*4 transfers/,
        )
        assert.match(
          await textOf('#running'),
          /9\.54 MiB of 28\.6 MiB[\s\S]*upstream[\s\S]*and on to worker-5[\s\S]*7\.15 MiB of 28\.6 MiB[\s\S]*worker-2/,
        )
      })
    })
  })

  it('names each node to which a part goes on', async () => {
    await withServedPage(async (served) => {
      const followers = Object.keys(STATUS.followers).map((digest) => [digest, '10.0.0.5:5001, 10.0.0.2:5001'])
      served.status = { ...STATUS, followers: Object.fromEntries(followers) }
      await withBrowser(async (browser) => {
        const { textOf } = await openPage(browser, served.url)
        assert.match(await textOf('#running'), /and on to worker-5\s+and on to worker-2/)
      })
    })
  })

  it('shows names with markup as the text that they are', async () => {
    await withServedPage(
      async (served) => {
        const [pull] = STATUS.pulls
        served.status = {
          ...STATUS,
          node: { ...STATUS.node, address: MARKUP },
          reasons: [MARKUP],
          findings: STATUS.findings?.map((finding) => ({
            ...finding,
            id: MARKUP,
            seen: MARKUP,
            why: MARKUP,
            remedy: MARKUP,
          })),
          held: { ...STATUS.held, images: [MARKUP] },
          registries: STATUS.registries.map((registry) => ({ ...registry, registry: MARKUP, reason: MARKUP })),
          swarm: {
            ...STATUS.swarm,
            versions: [[MARKUP, 1]],
            nodes: STATUS.swarm.nodes.map((one) => ({
              ...{ ...one, address: MARKUP },
              told: one.told && { ...one.told, name: MARKUP, version: MARKUP, runtime: MARKUP },
            })),
          },
          pulls:
            pull === undefined
              ? []
              : [
                  {
                    ...pull,
                    name: MARKUP,
                    parts: pull.parts.map((one) => ({
                      ...{ ...one, key: MARKUP },
                      transfers: one.transfers.map((transfer) => ({
                        ...transfer,
                        attempts: transfer.attempts.map((attempt) => ({ ...attempt, peer: MARKUP })),
                      })),
                    })),
                  },
                ],
        }
        await withBrowser(async (browser) => {
          const open = await openPage(browser, served.url)
          for (const id of ['node', 'reasons', 'findings', 'running', 'pulls', 'members', 'swarm', 'held']) {
            assert.ok((await open.textOf(`#${id}`)).includes(MARKUP.slice(0, 12)), id)
          }
          assert.ok((await trace(open, MARKUP)).includes(MARKUP))
          const found = await open.page.evaluate(() => ({
            images: document.querySelectorAll('img').length,
            injected: 'injected' in window,
          }))
          assert.deepEqual(found, { images: 0, injected: false })
          assert.deepEqual(open.problems, [])
        })
      },
      async (reference, emit) => {
        emit({ step: 'name', name: reference, lookupTimeout: 100 })
        const answer = {
          address: reference,
          outcome: 'silent',
          headMs: 3_000,
          problem: reference,
          isAside: true,
        } as const
        const asked = { firstPeerMs: 400, lookupMs: 500, found: 1, answers: [answer] }
        emit({ step: 'part', part: { role: 'tag', key: reference, isLocal: false, localMs: 1, ...asked } })
        emit({ step: 'end', ms: 5, problem: reference })
      },
    )
  })

  it('runs no script but its own', async () => {
    await withServedPage(async ({ url }) => {
      await withBrowser(async (browser) => {
        const { page, problems, textOf } = await openPage(browser, url)
        await textOf('#state', /ready/)
        const refused = await page.evaluate(() => {
          try {
            const script = document.createElement('script')
            script.textContent = 'window.injected = true'
            document.body.append(script)
          } catch (error) {
            return String(error)
          }
          return 'injected' in window
        })
        assert.match(String(refused), /TrustedScript/)
        assert.equal(problems.length, 1)
      })
    })
  })

  it('is used with the keyboard, and keeps the focus and what is open while it is live', async () => {
    await withServedPage(async (served) => {
      await withBrowser(async (browser) => {
        const { page, textOf } = await openPage(browser, served.url)
        await textOf('#findings', /as localhost/)
        // biome-ignore lint/performance/useDomNodeTextContent: what is seen is meant, without what is folded
        const focused = () => page.evaluate(() => (document.activeElement as HTMLElement).innerText)
        await waitFor('a warning has the focus', async () => {
          await page.keyboard.press('Tab')
          return (await focused()).includes('as localhost')
        })
        await page.keyboard.press('Enter')
        await textOf('#findings', /localhost can also mean/)
        const findings = STATUS.findings?.map((one) =>
          one.severity === 'ok' ? { ...one, seen: 'containerd 2.3.0' } : one,
        )
        served.status = { ...STATUS, findings, swarm: { ...STATUS.swarm, size: 6 } }
        await textOf('#figures', /Other nodes\s+5/)
        assert.match(await textOf('#findings'), /localhost can also mean/)
        assert.match(await focused(), /as localhost/)
      })
    })
  })

  it('has a landmark for everything, headers for every column, and a label for every field', async () => {
    await withServedPage(async ({ url }) => {
      await withBrowser(async (browser) => {
        const { page, textOf } = await openPage(browser, url)
        await textOf('#state', /ready/)
        const found = await page.evaluate(() => {
          const named = (element: Element) =>
            element.hasAttribute('aria-label') || element.hasAttribute('aria-labelledby')
          const all = (selector: string) => [...document.querySelectorAll(selector)]
          return {
            landmarks: all('header, main, footer').length,
            titles: all('h1').length,
            unnamed: all('section, table').filter((element) => !named(element)).length,
            headless: all('table').filter((table) => table.querySelector('thead th[scope=col]') === null).length,
            unlabelled: all('input').filter((field) => (field as HTMLInputElement).labels?.length !== 1).length,
            language: document.documentElement.lang,
          }
        })
        assert.deepEqual(found, { landmarks: 3, titles: 1, unnamed: 0, headless: 0, unlabelled: 0, language: 'en' })
      })
    })
  })
})
