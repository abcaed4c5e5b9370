#!/usr/bin/env node
import { enableCompileCache } from 'node:module'
import { runCli } from './cli.ts'
import { processWorld } from './world.ts'

enableCompileCache()
// Not left to the event loop: a node that cannot go on (L5) still listens, and would hang instead of ending.
process.exit(await runCli(process.argv.slice(2), processWorld()))
