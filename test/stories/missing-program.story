# A program that is not on one machine is tried on another and spends no retry; after three misses the machine is left out.
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
> claim a slots=3
row j/t1 running epoch=1 on=a
row j/t2 running epoch=1 on=a
row j/t3 running epoch=1 on=a
grant a: j/t1#1 j/t2#1 j/t3#1
> report a j/t1#1 exit=127
row j/t1 active epoch=1 lastEnd=reported
watch j/t1 active epoch=1 end=program-missing exit=127
verdict accepted
> report a j/t2#1 exit=127
row j/t2 active epoch=1 lastEnd=reported
watch j/t2 active epoch=1 end=program-missing exit=127
verdict accepted
> report a j/t3#1 exit=126
row job j active without=a
row j/t3 active epoch=1 lastEnd=reported
watch j/t3 active epoch=1 end=program-missing exit=126
verdict accepted
> claim a slots=3 waitMs=0
grant a: nothing
> claim b slots=4
row j/t3 running epoch=2 on=b
row j/t2 running epoch=2 on=b
row j/t1 running epoch=2 on=b
row j/t4 running epoch=1 on=b
grant b: j/t3#2 j/t2#2 j/t1#2 j/t4#1
> report b j/t1#2 exit=0
row j/t1 completed epoch=2 lastEnd=reported result=success
watch j/t1 completed epoch=2 end=success
verdict accepted
> report b j/t2#2 exit=127
row j/t2 completed epoch=2 lastEnd=reported result=failure
watch j/t2 completed epoch=2 end=failure exit=127
verdict accepted
# No other is there to try: an ordinary failure, so that a mistyped command does not wait for ever.
> gone b dead
row j/t3 active epoch=2 lastEnd=lost
row j/t4 active epoch=1 lastEnd=lost
> claim a slots=4
row j/t4 running epoch=2 on=a
row j/t3 running epoch=3 on=a
grant a: j/t4#2 j/t3#3
> report a j/t3#3 exit=127
row j/t3 completed epoch=3 lastEnd=reported result=failure
watch j/t3 completed epoch=3 end=failure exit=127
verdict accepted
