# A dead process is not a partition: its leases end at once, and only the lost machine is counted (C1).
> nodes 2
row machine a incarnation=1
welcome keep [] nodes [tvm-er-machine-a]
row machine b incarnation=1
welcome keep [] nodes [tvm-er-machine-b]
> job j retries=0
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
> claim a slots=2 prefetch=1
row j/t1 running epoch=1 on=a
row j/t2 running epoch=1 on=a
grant a: j/t1#1 j/t2#1
> start a j/t1#1
watch j
> gone a dead
row j/t1 active epoch=1 requeues=1 losses=1 lastEnd=lost
watch j/t1 active epoch=1 end=lost
row j/t2 active epoch=1 lastEnd=lost
> claim b slots=3
row j/t2 running epoch=2 on=b
row j/t1 running epoch=2 on=b requeues=1 losses=1
row j/t3 running epoch=1 on=b
grant b: j/t2#2 j/t1#2 j/t3#1
> hello a incarnation=2
row machine a incarnation=2
welcome keep [] nodes [tvm-er-machine-a]
> status j/t1
j/t1 running epoch=2 on=b requeues=1 losses=1
> status j/t2
j/t2 running epoch=2 on=b
