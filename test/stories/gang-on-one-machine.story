# One machine may have several nodes of a gang; each member has a name of its own.
> machine a cores=4
row machine a incarnation=1
welcome keep [] nodes [tvm-er-machine-a]
> pool p dedicated=3 inter
row pool p resizing 3+0
row mesh nextJob=1 nextReservation=2
row node 1 of p on a
reserve a: node 1 of p
row mesh nextJob=1 nextReservation=3
row node 2 of p on a
reserve a: node 2 of p
row mesh nextJob=1 nextReservation=4
row node 3 of p on a
reserve a: node 3 of p
answer p
> granted
row pool p steady 3+0
> job mpi pool=p retries=1
row mesh nextJob=2 nextReservation=4
row job mpi active
answer mpi
> submit mpi g(gang:3)
row spec mpi/g
row roll mpi from 0: g
answer g added
watch mpi
row mpi/g running epoch=1 on=a a a
tell a: mpi/g#1 of 3
tell a: mpi/g#1+1 of 3
tell a: mpi/g#1+2 of 3
> start a mpi/g#1
watch mpi
# A member that ends well ends nothing, one that fails ends all.
> report a mpi/g#1+1 exit=0
row members of mpi/g#1: ended +1
verdict accepted
> report a mpi/g#1+2 exit=1
row members of mpi/g#1: ended +1, +2 exit=1
row members of mpi/g#1: ended +1, +2 exit=1
stop a: mpi/g#1 (the task has ended)
stop a: mpi/g#1+1 (the task has ended)
row mpi/g active epoch=1 retries=1 lastEnd=reported
watch mpi/g active epoch=1 end=failure exit=1
verdict accepted
row mpi/g running epoch=2 on=a a a retries=1
tell a: mpi/g#2 of 3
tell a: mpi/g#2+1 of 3
tell a: mpi/g#2+2 of 3
> report a mpi/g#2 exit=0
row members of mpi/g#2: ended +1, +2
stop a: mpi/g#2+1 (the task has ended)
stop a: mpi/g#2+2 (the task has ended)
row mpi/g completed epoch=2 retries=1 lastEnd=reported result=success
watch mpi/g completed epoch=2 end=success
verdict accepted
> status mpi/g
mpi/g completed epoch=2 retries=1 lastEnd=reported result=success
