# A cut connection: what has not started is requeued at once, what runs goes on (L6, L7).
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
> claim a slots=2 prefetch=2
row j/t1 running epoch=1 on=a
row j/t2 running epoch=1 on=a
row j/t3 running epoch=1 on=a
grant a: j/t1#1 j/t2#1 j/t3#1
> start a j/t1#1
watch j
> gone a
row j/t2 active epoch=1 lastEnd=lost
row j/t3 active epoch=1 lastEnd=lost
> claim b slots=1
row j/t3 running epoch=2 on=b
grant b: j/t3#2
# t2 had begun, though its note was lost: it was not replaced yet, so it goes on; t1 is kept.
> hello a j/t1#1 j/t2#1:fetching j/t4#1:running
row j/t2 running epoch=1 on=a
row machine a incarnation=1
welcome keep [j/t1#1 j/t2#1] nodes [tvm-er-machine-a]
> report a j/t1#1 exit=0
row j/t1 completed epoch=1 lastEnd=reported result=success
watch j/t1 completed epoch=1 end=success
verdict accepted
> report a j/t2#1 exit=0
row j/t2 completed epoch=1 lastEnd=reported result=success
watch j/t2 completed epoch=1 end=success
verdict accepted
