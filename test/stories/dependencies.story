# Tasks wait for ids and ranges; parents may come later, in ranges 03 is 3, and a failed parent blocks its children.
> nodes 1
row machine a incarnation=1
welcome keep [] nodes [tvm-er-machine-a]
> job d dependencies
row mesh nextJob=2 nextReservation=1
row job d active
answer d
> submit d last(after:1-3) named(after:X+04)
row spec d/last
row spec d/named
row roll d from 0: last named
answer last added, named added
watch d
> submit d 1 2 03 x 4
row spec d/1
row spec d/2
row spec d/03
row spec d/x
row spec d/4
row roll d from 2: 1 2 03 x 4
answer 1 added, 2 added, 03 added, x added, 4 added
watch d
offer default: 5
> claim a slots=9
row d/1 running epoch=1 on=a
row d/2 running epoch=1 on=a
row d/03 running epoch=1 on=a
row d/x running epoch=1 on=a
row d/4 running epoch=1 on=a
grant a: d/1#1 d/2#1 d/03#1 d/x#1 d/4#1
> report a d/1#1 exit=0
row d/1 completed epoch=1 lastEnd=reported result=success
watch d/1 completed epoch=1 end=success
verdict accepted
> report a d/03#1 exit=0
row d/03 completed epoch=1 lastEnd=reported result=success
watch d/03 completed epoch=1 end=success
verdict accepted
> report a d/x#1 exit=0
row d/x completed epoch=1 lastEnd=reported result=success
watch d/x completed epoch=1 end=success
verdict accepted
> report a d/4#1 exit=0
row d/4 completed epoch=1 lastEnd=reported result=success
watch d/4 completed epoch=1 end=success
verdict accepted
> claim a slots=9
> why d/named
Task named waits for other tasks.
  04 does not exist (yet).
> report a d/2#1 exit=1
row d/2 completed epoch=1 lastEnd=reported result=failure
watch d/2 completed epoch=1 end=failure exit=1
verdict accepted
> why d/last
Task last waits for other tasks.
  1 of the tasks 1-3 have not succeeded.
> reactivate d/2
row d/2 active epoch=1 lastEnd=revoked
watch d/2 active epoch=1
answer
row d/2 running epoch=2 on=a
grant a: d/2#2
> restart
> hello a d/2#2:fetching
row machine a incarnation=1
welcome keep [d/2#2] nodes [tvm-er-machine-a]
> claim a slots=9
> report a d/2#2 exit=0
row d/2 completed epoch=2 lastEnd=reported result=success
watch d/2 completed epoch=2 end=success
verdict accepted
row d/last running epoch=1 on=a
grant a: d/last#1
> claim a slots=9
