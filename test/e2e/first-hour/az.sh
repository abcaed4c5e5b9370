#!/usr/bin/env bash
# The first hour of somebody who knows `az batch`: the same words, options and JSON files, on machines of their own.
. "$(dirname "$0")/common.sh"

step 'the account: a mesh of two machines'
on one batchmesh up --detach --name one
on one batchmesh invite | on two batchmesh up --detach --name two --join -
# sits down at machine one; az batch … becomes batchmesh …
export BATCHMESH_DATA=$PWD/machines/one

step 'a pool, by options and by file'
batchmesh pool create --id small --vm-size cores=1,memory=256MiB --target-dedicated-nodes 2 --task-slots-per-node 1
cat >pool.json <<'JSON'
{
  "id": "byfile",
  "vmSize": "cores=1,memory=128MiB",
  "virtualMachineConfiguration": { "imageReference": { "publisher": "canonical", "offer": "ubuntu", "sku": "24.04" }, "nodeAgentSKUId": "batch.node.ubuntu 24.04" },
  "targetDedicatedNodes": 1,
  "taskSchedulingPolicy": { "nodeFillType": "pack" }
}
JSON
batchmesh pool create --json-file pool.json
deadline=$((SECONDS + 60))
until [ "$(batchmesh pool show --pool-id small --query allocationState -o tsv)" = steady ]; do
  [ $SECONDS -lt $deadline ] || fail 'the pool does not become steady'
done
is 'nodes' "$(batchmesh pool show --pool-id small --query currentDedicatedNodes -o tsv)" 2

step 'a job and its tasks'
batchmesh job create --id films --pool-id small
printf 'one two three\n' >words.txt
batchmesh task create --job-id films --task-id count --command-line 'wc -w words.txt' --resource-files words.txt=words.txt
cat >tasks.json <<'JSON'
[
  { "id": "hello", "commandLine": "/bin/sh -c 'echo hello from $AZ_BATCH_TASK_ID on $AZ_BATCH_POOL_ID'", "environmentSettings": [{ "name": "X", "value": "1" }] },
  { "id": "short", "commandLine": "sleep 600", "constraints": { "maxWallClockTime": "PT1S" } },
  { "id": "exit3", "commandLine": "/bin/sh -c 'exit 3'", "constraints": { "maxTaskRetryCount": 1 } }
]
JSON
batchmesh task create --job-id films --json-file tasks.json
ends 1 batchmesh job wait --job-id films

step 'states, exit codes, files'
is 'words' "$(batchmesh task file download --job-id films --task-id count --file-path stdout.txt --destination -)" '3 words.txt'
has 'hello' "$(batchmesh task logs films/hello)" 'hello from hello on small'
is 'exit code' "$(batchmesh task show --job-id films --task-id exit3 --query executionInfo.exitCode -o tsv)" 3
is 'retries' "$(batchmesh task show --job-id films --task-id exit3 --query executionInfo.retryCount -o tsv)" 1
is 'failed' "$(batchmesh task list --job-id films --query "[?executionInfo.result=='failure'].id" -o tsv | sort | xargs)" 'exit3 short'
has 'files' "$(batchmesh task file list --job-id films --task-id count -o tsv)" 'stdout.txt'
has 'the time limit has its name' "$(batchmesh task show films/short)" 'MaxWallClockTimeExpiry'

step 'errors with their codes'
ends 1 batchmesh job create --id films --pool-id small
has 'exists' "$said" 'films exists already'
ends 1 batchmesh pool show --pool-id nowhere
has 'not found' "$said" 'no pool nowhere'

step 'run again, resize, end'
batchmesh task reactivate --job-id films --task-id exit3
batchmesh pool resize --pool-id small --target-dedicated-nodes 1
batchmesh job stop --job-id films
batchmesh job delete --job-id films --yes
is 'jobs' "$(batchmesh job list --query 'length(@)' -o tsv)" 0
batchmesh pool delete --pool-id small
batchmesh pool delete --pool-id byfile
on two batchmesh down
on one batchmesh down
