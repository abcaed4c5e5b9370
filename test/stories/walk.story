# The walk of one task: submitted, offered, claimed, started, reported, seen; then its job ends with it.
> nodes 1
row machine a incarnation=1
welcome keep [] nodes [tvm-er-machine-a]
> job j
row mesh nextJob=2 nextReservation=1
row job j active
answer j
> submit j a
row spec j/a
row roll j from 0: a
answer a added
watch j
offer default: 1
> claim a
row j/a running epoch=1 on=a
grant a: j/a#1
> start a j/a#1
watch j
> counts j
0 active, 1 running, 0 succeeded, 0 failed
> close j
row job j active
answer j
> report a j/a#1 exit=0
row j/a completed epoch=1 lastEnd=reported result=success
watch j/a completed epoch=1 end=success
verdict accepted
row job j completed reason=AllTasksComplete
watch j
> counts j
0 active, 0 running, 1 succeeded, 0 failed
> status j/a
j/a completed epoch=1 lastEnd=reported result=success
