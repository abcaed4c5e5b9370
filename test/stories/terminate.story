# A task that is ended by its user cannot report any more (L2); a job that is ended leaves what never ran.
> nodes 1
row machine a incarnation=1
welcome keep [] nodes [tvm-er-machine-a]
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
> start a j/t1#1 j/t2#1
watch j
> terminate j/t1
stop a: j/t1#1 (The task was ended by a user.)
row j/t1 completed epoch=2 lastEnd=revoked result=failure failure=TaskEnded
watch j/t1 completed epoch=2 end=terminated
answer
> report a j/t1#1 exit=0
verdict refused
> terminate j
stop a: j/t2#1 (The job was ended (UserTerminate).)
row j/t2 completed epoch=2 lastEnd=revoked result=failure failure=TaskEnded
watch j/t2 completed epoch=2 end=terminated
row job j completed reason=UserTerminate
watch j
answer
> report a j/t2#1 exit=0
verdict refused
> counts j
1 active, 0 running, 0 succeeded, 2 failed
> submit j t4
refuse JobCompleted
> terminate j
refuse JobCompleted
> delete-job j
row job j deleting reason=UserTerminate
watch j
purge j
answer
> report a j/t2#1 exit=0
verdict refused
