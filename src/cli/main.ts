#!/usr/bin/env node
import { enableCompileCache } from 'node:module'
import { runCli } from './cli.ts'
import { processWorld } from './world.ts'

enableCompileCache()
process.exitCode = await runCli(process.argv.slice(2), processWorld())
