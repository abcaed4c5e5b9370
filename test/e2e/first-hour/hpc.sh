#!/usr/bin/env bash
# The first hour of somebody from a cluster: arrays, requirements, dependencies, who runs what and why not.
. "$(dirname "$0")/common.sh"

step 'nodes'
on login batchmesh up --detach --name login --lend-cpus 0
on login batchmesh invite --uses 2 >mesh.token
on n1 batchmesh up --detach --name n1 --join mesh.token --label queue=long
on n2 batchmesh up --detach --name n2 --join mesh.token --label queue=short
export BATCHMESH_DATA=$PWD/machines/login
# sinfo
has 'machines' "$(batchmesh machine list)" 'queue=long'

step 'sbatch --array=0-99:3'
batchmesh run --job-id sweep --array 0-99:3 --retries 2 --cpus 1 --memory 32MiB --timeout 1m \
  'echo $((BATCHMESH_ARRAY_INDEX * BATCHMESH_ARRAY_INDEX)) > {index:03}.sq' --outputs '*.sq' --to squares
is 'files' "$(ls squares | wc -l)" 34
is 'square of 99' "$(cat squares/099.sq)" 9801
is 'ids' "$(batchmesh task list sweep --limit 2 --query '[].id' -o tsv | xargs)" '0000 0003'

step 'a million at once'
batchmesh job create million
batchmesh task create million --array 0-999999 --command-line 'false {index}'
is 'waiting or under way' "$(batchmesh job show million --query 'counts.[active, running, completed] | sum(@)' -o tsv)" 1000000
batchmesh job delete million --yes

step '--dependency=afterok'
batchmesh job create flow --uses-task-dependencies
batchmesh task create flow/collect --depends-on 0-9 --command-line 'echo all ten are there'
has 'squeue says why' "$(batchmesh explain flow/collect)" 'wait'
batchmesh task create flow --array 0-9 --command-line 'sh -c "test {index} -ge 0"'
batchmesh job wait flow
has 'collected' "$(batchmesh task logs flow/collect)" 'all ten'

step 'constraints, and why a job pends'
id=$(batchmesh run -q -d --label queue=huge 'hostname')
has 'the reason' "$(batchmesh explain "$id")" 'queue=huge'
# scancel
batchmesh job stop "$id"
is 'where the long ones run' "$(batchmesh run --label queue=long 'echo $AZ_BATCH_NODE_ID')" "$(batchmesh node list default --query "[?machineName=='n1'].id | [0]" -o tsv)"

step 'a node dies while it works'
id=$(batchmesh run -q -d --array 1-12 'sleep 1; echo {index}')
deadline=$((SECONDS + 60))
until [ "$(batchmesh task list "$id" --state running --query "length([?nodeInfo.machineName=='n2'])" -o tsv)" -gt 0 ]; do
  [ $SECONDS -lt $deadline ] || fail 'n2 gets no task'
done
kill -9 "$(on n2 batchmesh status --query node.pid -o tsv)"
batchmesh job wait "$id"
is 'none was lost for good' "$(batchmesh job show "$id" --query 'counts.[succeeded, failed]' -o tsv | xargs)" '12 0'

step 'sacct'
has 'the log of the mesh' "$(batchmesh events --job-id "$id")" 'n2|lost'
has 'the record of a task' "$(batchmesh task list "$id" -o tsv)" 'success'
on n1 batchmesh down
on login batchmesh down
