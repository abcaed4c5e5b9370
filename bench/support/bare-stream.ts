/**
 * The baseline of blob transfers: one libp2p stream with the encryption, multiplexer and window that a node uses, and
 * nothing else. `bare-stream.ts receive` prints the address to dial;
 * `bare-stream.ts send ADDRESS BYTES` sends that many bytes in pieces of 256 KiB and prints the seconds until the other side
 * had them all, and its CPU seconds.
 */
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const protocol = '/batchmesh-bench/bare/1'
const windowBytes = 1 << 20
const pieceBytes = 256 << 10

const create = (listen: string[]) =>
  createLibp2p({
    addresses: { listen },
    transports: [tcp()],
    connectionEncrypters: [tls()],
    streamMuxers: [yamux({ streamOptions: { initialStreamWindowSize: windowBytes, maxStreamWindowSize: windowBytes } })],
  })

if (process.argv[2] === 'receive') {
  const node = await create(['/ip4/127.0.0.1/tcp/0'])
  await node.handle(protocol, (stream) => {
    let expected = -1
    let came = 0
    stream.addEventListener('message', ({ data }) => {
      came += data.byteLength
      if (expected < 0) {
        expected = Number(new DataView(Uint8Array.from(data.slice(0, 8)).buffer).getBigUint64(0))
        came -= 8
      }
      if (came >= expected) stream.send(new Uint8Array([1]))
    })
  })
  console.log(String(node.getMultiaddrs()[0]))
} else {
  const node = await create([])
  const stream = await node.dialProtocol(multiaddr(process.argv[3]!), protocol)
  const bytes = Number(process.argv[4])
  const piece = new Uint8Array(pieceBytes).fill(7)
  const all = new Promise((resolve) => {
    stream.addEventListener('message', resolve, { once: true })
  })
  const header = new Uint8Array(8)
  new DataView(header.buffer).setBigUint64(0, BigInt(bytes))
  const start = performance.now()
  const before = process.cpuUsage()
  stream.send(header)
  for (let sent = 0; sent < bytes; sent += pieceBytes)
    if (!stream.send(piece.subarray(0, Math.min(pieceBytes, bytes - sent)))) await stream.onDrain()
  await all
  const { user, system } = process.cpuUsage(before)
  console.log(JSON.stringify({ seconds: (performance.now() - start) / 1000, cpuSeconds: (user + system) / 1e6 }))
  await node.stop()
}
