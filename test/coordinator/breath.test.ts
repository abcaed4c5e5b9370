import { expect, it } from 'vitest'
import { Breath } from '../../coordinator/breath.ts'

it('long work is due for a breath, in which everything else that waits goes on', async () => {
  const breath = new Breath()
  const since = performance.now()
  while (performance.now() - since < 25);
  expect(breath.isDue).toBe(true)
  let wentOn = false
  setImmediate(() => {
    wentOn = true
  })
  await breath.take()
  expect(wentOn).toBe(true)
})
