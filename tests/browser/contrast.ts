import type { Page } from 'puppeteer-core'

/** Least contrast of text that is not large (WCAG 2.2, success criterion 1.4.3). */
const LEAST = 4.5

/** Texts of the page that do not stand out enough from what is behind them. */
export async function contrastProblems(page: Page): Promise<string[]> {
  return await page.evaluate((least) => {
    const parse = (color: string) => (color.match(/[\d.]+/g) ?? []).map(Number)
    const luminance = ([red = 0, green = 0, blue = 0]: readonly number[]) => {
      const [r = 0, g = 0, b = 0] = [red, green, blue].map((value) => {
        const part = value / 255
        return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
      })
      return 0.2126 * r + 0.7152 * g + 0.0722 * b
    }
    const groundOf = (element: Element | null): readonly number[] => {
      if (element === null) return [255, 255, 255]
      const color = parse(getComputedStyle(element).backgroundColor)
      return color[3] === 0 ? groundOf(element.parentElement) : color
    }
    const problems: string[] = []
    for (const element of document.body.querySelectorAll('*')) {
      const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent?.trim() !== '')
      if (!text || element.closest('noscript') !== null) continue
      const [one, other] = [luminance(parse(getComputedStyle(element).color)), luminance(groundOf(element))]
      const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05)
      if (ratio < least) problems.push(`${element.textContent}: ${ratio.toFixed(2)}`)
    }
    return problems
  }, LEAST)
}
