# A machine that has nothing to do gets what it can use of what another holds unstarted; what is not given back has begun.
> nodes 2
row machine a incarnation=1
welcome keep [] nodes [tvm-er-machine-a]
row machine b incarnation=1
welcome keep [] nodes [tvm-er-machine-b]
> job j
row mesh nextJob=2 nextReservation=1
row job j active
answer j
> submit j t1 t2 t3 t4 t5 t6 t7
row spec j/t1
row spec j/t2
row spec j/t3
row spec j/t4
row spec j/t5
row spec j/t6
row spec j/t7
row roll j from 0: t1 t2 t3 t4 t5 t6 t7
answer t1 added, t2 added, t3 added, t4 added, t5 added, t6 added, t7 added
watch j
offer default: 7
> claim a slots=1 prefetch=3
row j/t1 running epoch=1 on=a
row j/t2 running epoch=1 on=a
row j/t3 running epoch=1 on=a
row j/t4 running epoch=1 on=a
grant a: j/t1#1 j/t2#1 j/t3#1 j/t4#1
> claim b slots=3
row j/t5 running epoch=1 on=b
row j/t6 running epoch=1 on=b
row j/t7 running epoch=1 on=b
grant b: j/t5#1 j/t6#1 j/t7#1
> report b j/t5#1 exit=0
row j/t5 completed epoch=1 lastEnd=reported result=success
watch j/t5 completed epoch=1 end=success
verdict accepted
> claim b slots=2
> tick 1
retract a: j/t4#1 j/t3#1
> retracted a j/t4#1
row j/t4 active epoch=1 lastEnd=lost
row j/t4 running epoch=2 on=b
grant b: j/t4#2
> tick 5
