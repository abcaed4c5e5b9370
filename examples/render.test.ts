/** Your own code, tested on a whole mesh that lives as long as the test: node --test examples/render.test.ts */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createTestMesh, type Mesh } from 'batchmesh'

/** The code under test takes its mesh as an argument. */
async function countWords(mesh: Mesh, texts: string[]): Promise<number> {
  let words = 0
  for await (const count of mesh.map((text: string) => text.split(/\s+/).length, texts)) words += count
  return words
}

void test('words are counted on two machines', async () => {
  await using mesh = await createTestMesh({ machines: 2, slots: 2 })
  assert.equal(await countWords(mesh, ['one two', 'three', 'four five six']), 6)
})

void test('a machine that leaves takes no work with it', async () => {
  await using mesh = await createTestMesh({ machines: 2, slots: 1 })
  const results = mesh.run({ command: 'sleep 0.2', array: 6 })
  await results.next()
  await mesh.others[0]?.close()
  let succeeded = 1
  for await (const done of results) if (done.result === 'success') succeeded += 1
  assert.equal(succeeded, 6)
})
