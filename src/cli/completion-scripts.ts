/**
 * The completion scripts. Own ones: those of @bomb.sh/tab pass the typed words through `eval` (so that Tab would run a
 * `$(…)` or a redirection in them), need the package bash-completion, and know candidates only from functions that
 * cannot wait for a mesh.
 *
 * Each calls `batchmesh __complete INDEX WORD…` with the words after the program's name and the place of the one to
 * complete, and gets a line that says how (`words`, `nospace`, `files`), then a line a candidate: `value<Tab>what it is`.
 */
export const shells = ['bash', 'zsh', 'fish', 'powershell'] as const
export type Shell = (typeof shells)[number]

export function completionScript(shell: Shell): string {
  return scripts[shell]
}

const bash = String.raw`# bash completion for batchmesh
_batchmesh() {
    local line mode=files current="${'$'}{COMP_WORDS[COMP_CWORD]}" program="${'$'}{COMP_WORDS[0]/#\~\//$HOME/}"
    # bash splits at "=": what follows it is a word of its own.
    [[ $current == = ]] && current=
    COMPREPLY=()
    {
        IFS= read -r mode
        while IFS= read -r line; do
            line=${'$'}{line%%$'\t'*}
            [[ $line == "$current"* ]] && COMPREPLY+=("$line")
        done
    } < <("$program" __complete "$((COMP_CWORD - 1))" "${'$'}{COMP_WORDS[@]:1}" 2>/dev/null)
    # Without candidates bash offers files, as registered below; bash 3 has no compopt and always does.
    [[ $mode != files ]] && compopt +o default 2>/dev/null
    [[ $mode == nospace ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -o default -F _batchmesh batchmesh
`

const zsh = String.raw`#compdef batchmesh
# zsh completion for batchmesh
_batchmesh() {
    local line mode value program=${'$'}{~words[1]}
    local -a lines candidates
    lines=("${'$'}{(@f)$("$program" __complete $((CURRENT - 2)) "${'$'}{(@)words[2,-1]}" 2>/dev/null)}")
    mode=$lines[1]
    if [[ $mode == files || -z $mode ]]; then
        _files
        return
    fi
    for line in "${'$'}{(@)lines[2,-1]}"; do
        [[ -z $line ]] && continue
        value=${'$'}{${'$'}{line%%$'\t'*}//:/\\:}
        if [[ $line == *$'\t'?* ]]; then candidates+=("$value:${'$'}{line#*$'\t'}"); else candidates+=("$value"); fi
    done
    if [[ $mode == nospace ]]; then _describe -t values batchmesh candidates -S ''; else _describe -t values batchmesh candidates; fi
}
if [[ $funcstack[1] == _batchmesh ]]; then _batchmesh "$@"; else compdef _batchmesh batchmesh; fi
`

const fish = String.raw`# fish completion for batchmesh
function __batchmesh_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -l program $before[1]
    set -e before[1]
    set -l lines ($program __complete (count $before) $before "$current" 2>/dev/null)
    if test "$lines[1]" = files
        __fish_complete_path "$current"
    else if set -q lines[2]
        printf '%s\n' $lines[2..-1]
    end
end
complete -c batchmesh -f -a '(__batchmesh_complete)'
`

const powershell =
  `# PowerShell completion for batchmesh
Register-ArgumentCompleter -Native -CommandName batchmesh -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Where-Object { $_.Extent.StartOffset -lt $cursorPosition } | ForEach-Object { $_.Extent.Text })
    $program = $words[0]
    $before = @($words | Select-Object -Skip 1)
    $index = $before.Count
    if ($wordToComplete) { $index = $before.Count - 1 }
    $lines = @(& $program __complete $index $before 2>$null)
    if ($lines.Count -lt 2 -or $lines[0] -eq 'files') { return }
    foreach ($line in $lines[1..($lines.Count - 1)]) {
        $value, $about = $line -split "` +
  '`t' +
  `", 2
        if (-not $value.StartsWith($wordToComplete)) { continue }
        if (-not $about) { $about = $value }
        [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $about)
    }
}
`

const scripts: Record<Shell, string> = { bash, zsh, fish, powershell }
