/**
 * Figures as people read them. Everything under client/ runs in the browser. Its functions are sent as their source, so they
 * may call each other, but use nothing else of a module.
 */

/** Bytes in binary units, with three significant digits. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2
  return `${value.toFixed(digits)} ${units[unit]}`
}

/** A time in milliseconds, seconds, minutes, hours or days. A negative time, from a clock that was set back, counts as 0. */
export function formatTime(ms: number): string {
  if (ms < 10) return `${Math.max(ms, 0).toFixed(1)} ms`
  if (ms < 1000) return `${ms.toFixed(0)} ms`
  const seconds = ms / 1000
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`
  const minutes = seconds / 60
  if (minutes < 60) return `${minutes.toFixed(0)} min`
  const hours = minutes / 60
  return hours < 48 ? `${hours.toFixed(0)} h` : `${(hours / 24).toFixed(0)} d`
}

/** Bytes per second from bytes and milliseconds; empty if there are too few for a rate. */
export function formatRate(bytes: number, ms: number): string {
  return bytes < 65536 || ms < 1 ? '' : `${formatBytes((bytes * 1000) / ms)}/s`
}

/** A share in per cent; a dash if the whole is 0. */
export function formatShare(part: number, whole: number): string {
  if (whole === 0) return '–'
  const share = (part / whole) * 100
  return `${share.toFixed(share === 0 || share >= 99.95 || share === Math.round(share) ? 0 : 1)} %`
}

/** A digest, shortened for a table. */
export function formatDigest(digest: string): string {
  const hex = digest.slice(digest.indexOf(':') + 1)
  return hex.length > 12 ? hex.slice(0, 12) : hex
}

/** The name of a host without its domain, which all nodes share; an address unchanged. */
export function formatHost(name: string): string {
  const [host = ''] = name.split('.')
  return /^\d*$/.test(host) ? name : host
}

/** A number with its noun. */
export function formatCount(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`
}
