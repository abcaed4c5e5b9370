/** Lists that come in pages, as one sequence. */

/** Asks for page after page as they are used. `limit` ends it after so many items. */
export async function* pages<T>(
  ask: (after: string | undefined) => Promise<{ items: T[]; next?: string | undefined }>,
  limit = Number.POSITIVE_INFINITY,
): AsyncGenerator<T, void, undefined> {
  let left = limit
  let after: string | undefined
  do {
    const page = await ask(after)
    for (const item of page.items) {
      if (left <= 0) return
      left -= 1
      yield item
    }
    after = page.next
  } while (after !== undefined && left > 0)
}
