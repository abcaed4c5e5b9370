# A pool asks machines for nodes, shrinks, and what ran there is requeued.
> nodes 2
row machine a incarnation=1
welcome keep [] nodes [tvm-er-machine-a]
row machine b incarnation=1
welcome keep [] nodes [tvm-er-machine-b]
> pool p dedicated=2
row pool p resizing 2+0
row mesh nextJob=1 nextReservation=2
row node 1 of p on a
reserve a: node 1 of p
row mesh nextJob=1 nextReservation=3
row node 2 of p on b
reserve b: node 2 of p
answer p
> granted
row pool p steady 2+0
> job j pool=p
row mesh nextJob=2 nextReservation=3
row job j active
answer j
> submit j t1 t2
row spec j/t1
row spec j/t2
row roll j from 0: t1 t2
answer t1 added, t2 added
watch j
offer p: 2
> claim a tvm-1-achine-a
row j/t1 running epoch=1 on=a
grant a: j/t1#1
> claim b tvm-2-achine-b
row j/t2 running epoch=1 on=b
grant b: j/t2#1
> start a j/t1#1
watch j
> start b j/t2#1
watch j
> resize p 1 taskcompletion
row pool p resizing 1+0
row node 1 of p on a leaving
answer p
> report a j/t1#1 exit=0
row j/t1 completed epoch=1 lastEnd=reported result=success
watch j/t1 completed epoch=1 end=success
verdict accepted
> tick 1
del node/1
release a: node 1
row pool p steady 1+0
> resize p 0 requeue
row pool p resizing 0+0
stop b: j/t2#1 (the pool has shrunk)
row j/t2 active epoch=1 requeues=1 lastEnd=revoked
watch j/t2 active epoch=1 end=requeued
del node/2
release b: node 2
row pool p steady 0+0
answer p
offer p: 1
> status j/t2
j/t2 active epoch=1 requeues=1 lastEnd=revoked
> resize p 1
row pool p resizing 1+0
row mesh nextJob=2 nextReservation=4
row node 3 of p on a
reserve a: node 3 of p
answer p
> refused a 3 too small today
del node/3
release a: node 3
row mesh nextJob=2 nextReservation=5
row node 4 of p on b
reserve b: node 4 of p
> tick 6
offer p: 1
reserve b: node 4 of p
> granted
row pool p steady 1+0
> delete-pool p
del node/4
release b: node 4
del pool/p
answer
