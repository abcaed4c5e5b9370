/** What to do about failures whose own words do not say it. Pure. */

/** Of Open MPI and MPICH: the program that mpirun was told to start is not there. */
const noProgram = /could not access\s+or execute an executable|execvp error on file|unable to find the specified executable file/

/** For the end of what a program wrote to stderr; undefined where there is nothing to add. */
export function hintOf(stderrTail: string | undefined): string | undefined {
  if (!noProgram.test(stderrTail ?? '')) return undefined
  return 'A program of your own goes to the machines only if you send it: --with ./program (submit and mpi run), or commonResourceFiles of the task.'
}
