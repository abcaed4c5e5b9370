# The coordinator starts again: running work goes on, what was never started is requeued, every lease has a fresh window (L3, L6).
> nodes 2
row machine a incarnation=1
welcome keep [] nodes [tvm-er-machine-a]
row machine b incarnation=1
welcome keep [] nodes [tvm-er-machine-b]
> job j
row mesh nextJob=2 nextReservation=1
row job j active
answer j
> submit j t1 t2 t3
row spec j/t1
row spec j/t2
row spec j/t3
row roll j from 0: t1 t2 t3
answer t1 added, t2 added, t3 added
watch j
offer default: 3
> claim a slots=2
row j/t1 running epoch=1 on=a
row j/t2 running epoch=1 on=a
grant a: j/t1#1 j/t2#1
> start a j/t1#1
watch j
> claim b
row j/t3 running epoch=1 on=b
grant b: j/t3#1
> start b j/t3#1
watch j
> restart 300
> tick 25
> hello a j/t1#1
row j/t2 active epoch=1 lastEnd=lost
row machine a incarnation=1
welcome keep [j/t1#1] nodes [tvm-er-machine-a]
offer default: 1
> report a j/t1#1 exit=0
row j/t1 completed epoch=1 lastEnd=reported result=success
watch j/t1 completed epoch=1 end=success
verdict accepted
> status j/t2
j/t2 active epoch=1 lastEnd=lost
> tick 10
offer default: 1
> status j/t3
j/t3 running epoch=1 on=b
> counts j
2 active, 0 running, 1 succeeded, 0 failed
