/**
 * Launch: how the primary of a gang starts programs on its other members (M1), as `mpirun` would by ssh.
 *
 * Participants: the node of a gang's primary asks, the node of another member serves. The attempt names the member. A launch
 * has an id that the primary's node chose: asking for the same again is asking how it stands, so a channel that broke is
 * opened anew and nothing runs twice. How it ended is told once, and again when asked for, until it is dropped.
 *
 * Promised
 *   S1 nothing is started but for the node of the primary of an attempt that runs here, in that member's place: its user, its
 *      directory, its limits; and nothing of it is left when the attempt has ended
 * Not promised: that a launch whose channel is broken goes on for ever. When the member is lost, its attempt ends.
 */
import { z } from 'zod'
import { attemptSchema, requestIdSchema } from './ids.ts'
import { defineProtocol } from './rpc.ts'

/** As long as one argument of a program can be (Linux: MAX_ARG_STRLEN), so that a shell can be told all of it. */
export const maxTextBytes = 128 * 1024
/** Launches of one member that run, or whose end was not taken note of: an mpirun has one; scripts that run many at once are rare. */
export const maxLaunches = 64
/** Of what a program said last: enough for the reason why it did not start. */
export const maxSaidBytes = 2048

export const launchedSchema = z.object({
  exitCode: z.number().int().min(0).max(255),
  /** The end of its standard error, if it failed. */
  said: z.string().max(2 * maxSaidBytes),
})
export type Launched = z.infer<typeof launchedSchema>

const launchNameSchema = z.object({ attempt: attemptSchema, id: requestIdSchema })

export const launchProtocol = defineProtocol({
  protocol: '/batchmesh/launch/1',
  requires: ['worker'],
  // a text, and what is around it
  maxFrameBytes: maxTextBytes + 4096,
  // one mpirun on many nodes of one machine asks for all at once
  maxInFlight: 1024,
  timeoutMs: 15_000,
  server: {
    calls: {
      /** Runs a text by `/bin/sh -c`. Answers how it ended, if it has; else `ended` tells later. TaskNotFound: no such member runs here. */
      launch: {
        request: launchNameSchema.extend({ text: z.string().min(1).max(maxTextBytes) }),
        answer: z.object({ ended: launchedSchema.optional() }),
      },
    },
    notes: {
      /** Ends the launch if it runs, and forgets it. */
      drop: launchNameSchema,
    },
  },
  client: { calls: {}, notes: { ended: launchNameSchema.extend({ launched: launchedSchema }) } },
})
