# A gang takes all its nodes in one step (M1); small tasks run beside it where it does not hold.
> nodes 3 cores=1
row machine a incarnation=1
welcome keep [] nodes [tvm-er-machine-a]
row machine b incarnation=1
welcome keep [] nodes [tvm-er-machine-b]
row machine c incarnation=1
welcome keep [] nodes [tvm-er-machine-c]
> pool p dedicated=3 inter
row pool p resizing 3+0
row mesh nextJob=1 nextReservation=2
row node 1 of p on a
reserve a: node 1 of p
row mesh nextJob=1 nextReservation=3
row node 2 of p on b
reserve b: node 2 of p
row mesh nextJob=1 nextReservation=4
row node 3 of p on c
reserve c: node 3 of p
answer p
> granted
row pool p steady 3+0
> job small pool=p
row mesh nextJob=2 nextReservation=4
row job small active
answer small
> submit small s1 s2
row spec small/s1
row spec small/s2
row roll small from 0: s1 s2
answer s1 added, s2 added
watch small
offer p: 2
> claim a tvm-1-achine-a
row small/s1 running epoch=1 on=a
grant a: small/s1#1
> claim b tvm-2-achine-b
row small/s2 running epoch=1 on=b
grant b: small/s2#1
> start a small/s1#1
watch small
> start b small/s2#1
watch small
> job mpi pool=p
row mesh nextJob=3 nextReservation=4
row job mpi active
answer mpi
> submit mpi g(gang:2)
row spec mpi/g
row roll mpi from 0: g
answer g added
watch mpi
# One node is idle: the gang waits, and after a while holds two.
> tick 9
offer p: 1
> tick 2
offer p: 1
> why mpi/g
Task g waits for its turn: it needs 2 nodes at once; of 3 that fit 1 is idle; 2 get nothing else until it starts.
  a: held for it; 1 of 1 slot is taken
  b: fits; 1 of 1 slot is taken
  c: held for it; 0 of 1 slot is taken
> submit small s3
row spec small/s3
row roll small from 2: s3
answer s3 added
watch small
> claim c tvm-3-achine-c
> report a small/s1#1 exit=0
row small/s1 completed epoch=1 lastEnd=reported result=success
watch small/s1 completed epoch=1 end=success
verdict accepted
row mpi/g running epoch=1 on=a c
tell a: mpi/g#1 of 2
tell c: mpi/g#1+1 of 2
> claim a tvm-1-achine-a
> report b small/s2#1 exit=0
row small/s2 completed epoch=1 lastEnd=reported result=success
watch small/s2 completed epoch=1 end=success
verdict accepted
# A member is lost: all of it ends, and it is tried again as one.
> gone c dead
row members of mpi/g#1: ended +1
stop a: mpi/g#1 (a member of the group was lost)
row mpi/g active epoch=1 lastEnd=revoked
row mpi/g running epoch=2 on=a b
tell a: mpi/g#2 of 2
tell b: mpi/g#2+1 of 2
> status mpi/g
mpi/g running epoch=2 on=a b
> tick 12
offer p: 1
