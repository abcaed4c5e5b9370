# A claim that finds nothing waits at the coordinator; a task that comes answers it, and time answers it empty.
> nodes 2
row machine a incarnation=1
welcome keep [] nodes [tvm-er-machine-a]
row machine b incarnation=1
welcome keep [] nodes [tvm-er-machine-b]
> claim a
> claim b
> job j
row mesh nextJob=2 nextReservation=1
row job j active
answer j
> submit j t1 t2
row spec j/t1
row spec j/t2
row roll j from 0: t1 t2
answer t1 added, t2 added
watch j
row j/t1 running epoch=1 on=a
grant a: j/t1#1
row j/t2 running epoch=1 on=b
grant b: j/t2#1
> start b j/t2#1
watch j
> claim a
> tick 21
grant a: nothing
# A repeated claim gets the same answer (L4), and a task that is gone from it is not named again.
> submit j t3
row spec j/t3
row roll j from 2: t3
answer t3 added
watch j
offer default: 1
> claim a id=again
row j/t3 running epoch=1 on=a
grant a: j/t3#1
> claim a id=again
grant a: j/t3#1
> report a j/t3#1 exit=0
row j/t3 completed epoch=1 lastEnd=reported result=success
watch j/t3 completed epoch=1 end=success
verdict accepted
> claim a id=again waitMs=0
grant a: nothing
