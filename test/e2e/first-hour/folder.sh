#!/usr/bin/env bash
# The first hour of somebody with a few workstations and a folder of inputs: a biologist with sequencing reads.
. "$(dirname "$0")/common.sh"

step 'three workstations become one mesh'
on desk batchmesh up --detach --name desk
on desk batchmesh invite --uses 2 >mesh.token
on bench batchmesh up --detach --name bench --join mesh.token
on attic batchmesh up --detach --name attic --join mesh.token --class low-priority
is 'machines' "$(on desk batchmesh machine list --query 'length([?connected])' -o tsv)" 3

step 'a folder of reads'
mkdir -p reads counts
for n in 01 02 03 04 05 06 07 08 09 10 11 12; do
  for side in R1 R2; do
    for ((i = 0; i < 10#$n; i++)); do printf '@read%s\nACGT\n+\nIIII\n' "$i"; done >"reads/s $n.$side.fq"
  done
done

step 'one sample first, to see whether the command is right'
count='awk "END { print NR / 4 }" {input} > {name}.count'
on desk batchmesh run --try 1 "$count" --inputs 'reads/*.R1.fq' --outputs '{name}.count' --to counts
is 'files after the try' "$(ls counts | wc -l)" 1

step 'then all of them; the one that is done is not done again'
ends 0 on desk batchmesh run --resume "$count" --inputs 'reads/*.R1.fq' --outputs '{name}.count' --to counts
is 'files' "$(ls counts | wc -l)" 12
is 'reads of sample 7' "$(cat 'counts/s 07.R1.count')" 7
has 'what is said of the first' "$said" '(^|[^0-9])1 .*(before|earlier)'

step 'the same again is nothing to do'
ends 0 on desk batchmesh run --resume "$count" --inputs 'reads/*.R1.fq' --outputs '{name}.count' --to counts
has 'all are there' "$said" '12 .*(before|earlier)'

step 'paired reads, from the sheet of samples'
{
  printf 'sample\tr1\tr2\n'
  for n in 01 02 03 04; do printf 's%s\treads/s %s.R1.fq\treads/s %s.R2.fq\n' "$n" "$n" "$n"; done
} >samples.tsv
on desk batchmesh run --table samples.tsv --inputs '{r1}' --inputs '{r2}' --job-id pairs \
  'cat {r1} {r2} | wc -l > {sample}.txt' --outputs '{sample}.txt' --to 'paired/{sample}/'
is 'lines of pair 4' "$(tr -d ' ' <paired/s04/s04.txt)" 32

step 'some fail: which, why, and once more'
mkdir -m 755 licence
ends 1 on desk batchmesh run --job-id align --env LICENCE="$PWD/licence/key" --inputs 'reads/*.R2.fq' \
  'case {name} in "s 03.R2"|"s 05.R2") test -e "$LICENCE" || { echo "no licence for {name}" >&2; exit 9; };; esac; head -1 {input}'
has 'the failures are grouped' "$said" 'no licence'
is 'failed tasks' "$(on desk batchmesh task list align --result failure --query 'length(@)' -o tsv)" 2
first=$(on desk batchmesh task list align --result failure --query '[0].id' -o tsv)
has 'the task tells' "$(on desk batchmesh task show "align/$first")" 'exit code: +9'
has 'its standard error' "$(on desk batchmesh task logs "align/$first" --stderr)" 'no licence for s 03'
touch licence/key
on desk batchmesh job rerun align --failed
is 'left to do' "$(on desk batchmesh job list --query "[?starts_with(id, 'align-')].counts.failed | [0]" -o tsv)" 0

step 'a workstation goes home in the middle; nobody notices'
id=$(on desk batchmesh run -q --detach --array 0-19 'sleep 0.4; echo {index} > {index}.txt' --outputs '{index}.txt')
on attic batchmesh down
on desk batchmesh job wait "$id" --to night
is 'results of the night' "$(ls night | wc -l)" 20

step 'the evening: what was it all'
on desk batchmesh job report pairs --to report.html
has 'the report' "$(head -c 200 report.html)" '<!doctype html>|<!DOCTYPE html>'
has 'what happened' "$(on desk batchmesh events)" 'attic'
for machine in bench desk; do on "$machine" batchmesh down; done
