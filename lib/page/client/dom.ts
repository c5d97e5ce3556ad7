export type Child = Node | string | undefined | false

/** The source of each part of the page when it was last filled. */
export type Shown = Map<string, string>

/** Makes an element. Texts always become text nodes, so no name of an image can become markup. */
export function make(tag: string, className: string, ...children: readonly Child[]): HTMLElement {
  const element = document.createElement(tag)
  if (className !== '') element.className = className
  for (const child of children) if (child !== undefined && child !== false) element.append(child)
  return element
}

/** Makes an SVG element. Its looks are attributes and not styles, because the page's policy forbids inline styles. */
export function draw(
  tag: string,
  attributes: Readonly<Record<string, string | number>>,
  ...children: readonly (Node | string)[]
): Element {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value))
  element.append(...children)
  return element
}

/** A drawing that fills its place. Screen readers read its label, and pointing at it shows it. */
export function picture(label: string, className: string, viewBox: string, shapes: readonly Element[]): Element {
  const attributes = { class: className, viewBox, preserveAspectRatio: 'none', role: 'img', 'aria-label': label }
  return draw('svg', attributes, draw('title', {}, label), ...shapes)
}

export function byId(id: string): HTMLElement {
  const element = document.getElementById(id)
  if (element === null) throw new Error(`the page has no #${id}`)
  return element
}

/**
 * Fills an element if the source of its content has changed. Parts that the reader has opened stay open, and the focus stays
 * where it was.
 */
export function fill(shown: Shown, id: string, source: unknown, content: () => readonly Child[]): void {
  const element = byId(id)
  const text = JSON.stringify(source)
  if (shown.get(id) === text) return
  shown.set(id, text)
  const opened = new Map<string, boolean>()
  for (const details of element.querySelectorAll('details')) opened.set(details.dataset.key ?? '', details.open)
  const focused = document.activeElement?.closest('details')?.dataset.key
  const isInside = element.contains(document.activeElement)
  element.replaceChildren(...content().filter((child) => child !== undefined && child !== false))
  for (const details of element.querySelectorAll('details')) {
    const key = details.dataset.key ?? ''
    details.open = opened.get(key) ?? details.open
    if (isInside && key === focused) details.querySelector('summary')?.focus()
  }
}

/** Text of one or several addresses, which may wrap before their ports. */
export function breakable(text: string): HTMLElement {
  const [first = '', ...rest] = text.split(':')
  const pieces = rest.flatMap((piece) => [make('wbr', ''), `:${piece}`])
  return make('span', 'name', first, ...pieces)
}

/** A part that can be opened and closed. Its key tells it from others. */
export function fold(key: string, isOpen: boolean, summary: readonly Child[], inside: readonly Child[]): HTMLElement {
  const details = make('details', '', make('summary', '', ...summary), make('div', 'inside', ...inside))
  details.dataset.key = key
  if (details instanceof HTMLDetailsElement) details.open = isOpen
  return details
}

/** A table. `columns` are titles with the class of the column's cells; the first cell of each row is its header. */
export function table(
  caption: string,
  columns: Readonly<Record<string, string>>,
  rows: readonly (readonly Child[])[],
  className = '',
): HTMLElement {
  const kinds = Object.values(columns)
  const head = Object.entries(columns).map(([title, kind]) => {
    const cell = make('th', kind.replace('mono', ''), title)
    cell.setAttribute('scope', 'col')
    return cell
  })
  const body = rows.map((cells) =>
    make(
      'tr',
      '',
      ...cells.map((cell, index) => {
        const made = make(index === 0 ? 'th' : 'td', kinds[index] ?? '', cell)
        // An empty cell would look like a mistake, so it shows a dash.
        if (cell === '') made.append(make('span', 'none', ''))
        if (index === 0) made.setAttribute('scope', 'row')
        return made
      }),
    ),
  )
  const element = make('table', className, make('thead', '', make('tr', '', ...head)), make('tbody', '', ...body))
  element.setAttribute('aria-label', caption)
  return element
}
