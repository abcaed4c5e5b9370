# Low-priority machines may leave at any time: that is preemption, not loss, and spends no retry (C1).
> machine a class=low-priority
row machine a incarnation=1
welcome keep [] nodes [tvm-er-machine-a]
> machine b
row machine b incarnation=1
welcome keep [] nodes [tvm-er-machine-b]
> pool p low=1
row pool p resizing 0+1
row mesh nextJob=1 nextReservation=2
row node 1 of p on a
reserve a: node 1 of p
answer p
> granted
row pool p steady 0+1
> job j pool=p retries=0
row mesh nextJob=2 nextReservation=2
row job j active
answer j
> submit j t
row spec j/t
row roll j from 0: t
answer t added
watch j
offer p: 1
> claim a tvm-1-achine-a
row j/t running epoch=1 on=a
grant a: j/t#1
> start a j/t#1
watch j
> gone a dead
row j/t active epoch=1 requeues=1 lastEnd=lost
watch j/t active epoch=1 end=preempted
> status j/t
j/t active epoch=1 requeues=1 lastEnd=lost
> machine a incarnation=2
row machine a incarnation=2
welcome keep [] nodes [tvm-er-machine-a tvm-1-achine-a]
> claim a tvm-1-achine-a
row j/t running epoch=2 on=a requeues=1
grant a: j/t#2
