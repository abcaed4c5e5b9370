# A machine goes down by its owner's wish: it gives back what it has not started and gets nothing more.
> nodes 2
row machine a incarnation=1
welcome keep [] nodes [tvm-er-machine-a]
row machine b incarnation=1
welcome keep [] nodes [tvm-er-machine-b]
> job j
row mesh nextJob=2 nextReservation=1
row job j active
answer j
> submit j t1 t2 t3 t4
row spec j/t1
row spec j/t2
row spec j/t3
row spec j/t4
row roll j from 0: t1 t2 t3 t4
answer t1 added, t2 added, t3 added, t4 added
watch j
offer default: 4
> claim a slots=1 prefetch=1
row j/t1 running epoch=1 on=a
row j/t2 running epoch=1 on=a
grant a: j/t1#1 j/t2#1
> start a j/t1#1
watch j
> drain a j/t2#1 leaving
row j/t2 active epoch=1 lastEnd=lost
> claim a
> claim b
row j/t2 running epoch=2 on=b
grant b: j/t2#2
> report a j/t1#1 exit=0
row j/t1 completed epoch=1 lastEnd=reported result=success
watch j/t1 completed epoch=1 end=success
verdict accepted
> gone a
del machine a
