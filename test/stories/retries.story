# A failure spends a retry, and the last one completes the task (Azure: n retries are n+1 runs).
> nodes 1
row machine a incarnation=1
welcome keep [] nodes [tvm-er-machine-a]
> job j retries=1
row mesh nextJob=2 nextReservation=1
row job j active
answer j
> submit j t
row spec j/t
row roll j from 0: t
answer t added
watch j
offer default: 1
> claim a
row j/t running epoch=1 on=a
grant a: j/t#1
> report a j/t#1 exit=3
row j/t active epoch=1 retries=1 lastEnd=reported
watch j/t active epoch=1 end=failure exit=3
verdict accepted
> report a j/t#1 exit=3
verdict accepted
> claim a
row j/t running epoch=2 on=a retries=1
grant a: j/t#2
> report a j/t#1 exit=0
verdict refused
> report a j/t#2 exit=3
row j/t completed epoch=2 retries=1 lastEnd=reported result=failure
watch j/t completed epoch=2 end=failure exit=3
verdict accepted
> counts j
0 active, 0 running, 0 succeeded, 1 failed
# Reactivated: counts start anew, epochs go on (L2).
> reactivate j/t
row j/t active epoch=2 lastEnd=revoked
watch j/t active epoch=2
answer
> claim a
row j/t running epoch=3 on=a
grant a: j/t#3
> report a j/t#2 exit=0
verdict refused
> report a j/t#3 exit=0
row j/t completed epoch=3 lastEnd=reported result=success
watch j/t completed epoch=3 end=success
verdict accepted
> reactivate j/t
refuse TaskSucceeded
