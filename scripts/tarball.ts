/**
 * Packs Batchmesh with everything that it needs to run, its Node included, into one file: unpack it anywhere and run
 * `batchmesh/bin/batchmesh`. What belongs in it is what the lock file names for production and this machine has
 * installed; types, source maps and the binaries of other systems stay out.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'

const root = dirname(import.meta.dirname)
const isFast = process.argv.includes('--fast')
const { version, files } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string; files: string[] }
const system = `${process.platform}-${process.arch}`

interface Locked {
  dev?: boolean
  devOptional?: boolean
  optional?: boolean
  os?: string[]
  cpu?: string[]
}

/** Directories of production packages that are installed; only what is for other systems may be missing. */
function packages(): string[] {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as { packages: Record<string, Locked> }
  const wanted = Object.entries(lock.packages).filter(([path, { dev, devOptional }]) => path !== '' && dev !== true && devOptional !== true)
  const missing = wanted.filter(([path, { optional }]) => optional !== true && !existsSync(join(root, path)))
  if (missing.length > 0) throw new Error(`not installed: ${missing.map(([path]) => path).join(', ')}; run scripts/setup`)
  return wanted.map(([path]) => path).filter((path) => existsSync(join(root, path)))
}

/** Whether a file or directory is needed to run. Packages within a package are in the lock file by themselves. */
function isNeeded(path: string, name: string): boolean {
  if (name === 'node_modules' || /\.map$|\.d\.[cm]?ts$|\.tsbuildinfo$/.test(name)) return false
  // Of Node only the program: not its headers, which are there to compile addons.
  if (/\/node-linux-[a-z0-9]+\/(include|share)$/.test(path)) return false
  const prebuilt = /\/prebuilds\/([^/]+)$/.exec(path)?.[1]
  return prebuilt === undefined || prebuilt === system
}

/** The files at or below a path, relative to the checkout. Links are followed by tar. */
function filesAt(path: string): string[] {
  if (!statSync(join(root, path)).isDirectory()) return [path]
  return readdirSync(join(root, path))
    .filter((name) => isNeeded(`${path}/${name}`, name))
    .flatMap((name) => filesAt(`${path}/${name}`))
}

/** Name, version, licence and its text of every package: their licences ask for that. */
function licences(paths: readonly string[]): string {
  const parts = paths.map((path) => {
    const about = JSON.parse(readFileSync(join(root, path, 'package.json'), 'utf8')) as {
      name: string
      version: string
      license?: string | object
    }
    const texts = readdirSync(join(root, path)).filter((name) => /^(licen[cs]e|copying|notice)/i.test(name))
    const text = texts
      .map((name) => join(root, path, name))
      .filter((file) => statSync(file).isFile())
      .map((file) => readFileSync(file, 'utf8').trim())
    return [`${about.name} ${about.version}: ${typeof about.license === 'string' ? about.license : 'see below'}`, ...text].join('\n\n')
  })
  return `${['Batchmesh is under the Apache License 2.0 (LICENSE). It contains these packages:', ...parts].join(`\n\n${'-'.repeat(100)}\n\n`)}\n`
}

if (process.platform !== 'linux') throw new Error('The tarball is for Linux, and is made there.')
if (!existsSync(join(root, `node_modules/node-${system}/bin/node`)))
  throw new Error(`The package node-${system} is not installed: npm has it as an optional dependency. Run scripts/setup.`)
mkdirSync(join(root, 'out'), { recursive: true })
const work = mkdtempSync(join(root, 'out/tarball-'))
try {
  const paths = packages()
  writeFileSync(join(work, 'THIRD-PARTY-LICENSES.txt'), licences(paths))
  const packed = [...files, 'package.json', 'README.md', 'LICENSE', ...paths].flatMap(filesAt).sort()
  writeFileSync(join(work, 'list'), packed.map((path) => `${path}\0`).join(''))
  const target = join(root, 'out', `batchmesh-${version}-${system}.tar.gz`)
  // The same content gives the same file, whoever packs it and when.
  const alike = ['--owner=0', '--group=0', '--numeric-owner', '--mtime=@0', '--mode=u+rwX,go+rX,go-w', '--dereference']
  const parts = ['-C', root, '--null', '-T', join(work, 'list'), '--no-null', '-C', work, 'THIRD-PARTY-LICENSES.txt']
  const named = ['--transform', 's,^,batchmesh/,', '-I', `gzip -n -${isFast ? 1 : 9}`, '-cf', `${target}.tmp`]
  execFileSync('tar', [...alike, ...named, ...parts])
  renameSync(`${target}.tmp`, target)
  console.log(`${relative(root, target)}: ${Math.round(statSync(target).size / 1e6)} MB, ${paths.length} packages`)
} finally {
  rmSync(work, { recursive: true, force: true })
}
