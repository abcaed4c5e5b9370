/** `batchmesh completion SHELL`: the script that a shell reads. What it offers is asked of `__complete` (complete.ts). */
import { Argument, type Command } from 'commander'
import { completionScript, type Shell, shells } from './completion-scripts.ts'
import type { Context } from './context.ts'

export function register(program: Command, context: Context): void {
  const command = program
    .command('completion')
    .description('Prints the script that lets a shell complete commands, options, and the names of jobs, pools and machines.')
    .addArgument(new Argument('<shell>').choices(shells))
    .addHelpText(
      'after',
      `
To have it in every new shell:
  bash        batchmesh completion bash > ~/.local/share/bash-completion/completions/batchmesh
              or in ~/.bashrc: source <(batchmesh completion bash)
  zsh         batchmesh completion zsh > ~/.zfunc/_batchmesh
              with, in ~/.zshrc: fpath+=~/.zfunc; autoload -U compinit; compinit
  fish        batchmesh completion fish > ~/.config/fish/completions/batchmesh.fish
  powershell  batchmesh completion powershell >> $PROFILE`,
    )
  context.action(command, async (_, [shell]) => context.world.stdout.write(completionScript(shell as Shell)))
}
