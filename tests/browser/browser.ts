/** A headless Chromium for tests, and mirrors' pages in it. Debian's chromium, driven over the DevTools protocol. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import process from 'node:process'
import puppeteer, { type Browser, type Page } from 'puppeteer-core'
import { PATIENCE } from '../fixtures/wait.ts'

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium'

/** For `describe`: why these tests cannot run here, if they cannot. */
export const skip = existsSync(CHROMIUM) ? false : `there is no ${CHROMIUM}; apt-get install chromium, or set CHROMIUM`

/** Longest wait for a condition in the browser, in milliseconds: it starts slowly on a busy machine. */
export const BROWSER_PATIENCE = 4 * PATIENCE

export async function withBrowser(use: (browser: Browser) => Promise<void>): Promise<void> {
  const browser = await puppeteer.launch({
    executablePath: CHROMIUM,
    // As root, as which the tests run, Chromium's sandbox does not start; the pages are our own.
    args: ['--no-sandbox', '--force-color-profile=srgb', '--hide-scrollbars'],
    timeout: BROWSER_PATIENCE,
  })
  try {
    await use(browser)
  } finally {
    await browser.close()
  }
}

export interface OpenOptions {
  readonly scheme?: 'light' | 'dark'
  readonly width?: number
  readonly scale?: number
}

/** An open page, and everything that went wrong in it: errors, warnings of the console, violations of its policy. */
export interface OpenPage {
  readonly page: Page
  /** Of the window, in pixels. */
  readonly width: number
  readonly problems: readonly string[]
  /** Waits until the element's text matches, and gives it. */
  textOf(selector: string, pattern?: RegExp): Promise<string>
}

export async function openPage(
  browser: Browser,
  url: string,
  { scheme = 'light', width = 1120, scale = 1 }: OpenOptions = {},
): Promise<OpenPage> {
  const page = await browser.newPage()
  const problems: string[] = []
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warn') problems.push(`${message.type()}: ${message.text()}`)
  })
  page.on('pageerror', (error) => problems.push(String(error)))
  page.setDefaultTimeout(BROWSER_PATIENCE)
  await page.setViewport({ width, height: 800, deviceScaleFactor: scale, isMobile: width < 500 })
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }])
  await page.goto(url)
  return {
    page,
    width,
    problems,
    async textOf(selector, pattern = /./) {
      const handle = await page.waitForFunction(
        (selector: string, source: string) => {
          // biome-ignore lint/performance/useDomNodeTextContent: what is seen is meant, without what is folded
          const text = (document.querySelector(selector) as HTMLElement | null)?.innerText ?? ''
          return new RegExp(source, 's').test(text) ? { text } : null
        },
        { polling: 50 },
        selector,
        pattern.source,
      )
      const value = await handle.jsonValue()
      return value?.text ?? assert.fail(`nothing at ${selector}`)
    },
  }
}

/** Types a reference and runs a trace to its end; gives what is shown then. */
export async function trace({ page, textOf }: OpenPage, reference: string): Promise<string> {
  await page.locator('#reference').fill(reference)
  await page.keyboard.press('Enter')
  return await textOf('#steps', /The trace took|^(?!Asking)(?!.*Asking…).+$/)
}

/** By how many pixels the page is wider than the window that it was opened in. */
export async function overflow({ page, width }: OpenPage): Promise<number> {
  return (await page.evaluate(() => document.documentElement.scrollWidth)) - width
}
