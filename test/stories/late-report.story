# A late report counts as long as the attempt has not been replaced (L2), once.
> nodes 2
row machine a incarnation=1
welcome keep [] nodes [tvm-er-machine-a]
row machine b incarnation=1
welcome keep [] nodes [tvm-er-machine-b]
> job j
row mesh nextJob=2 nextReservation=1
row job j active
answer j
> submit j t
row spec j/t
row roll j from 0: t
answer t added
watch j
offer default: 1
> claim a
row j/t running epoch=1 on=a
grant a: j/t#1
> start a j/t#1
watch j
> silence a
> tick 60
row j/t active epoch=1 requeues=1 losses=1 lastEnd=lost
watch j/t active epoch=1 end=lost
> status j/t
j/t active epoch=1 requeues=1 losses=1 lastEnd=lost
> hello a j/t#1:finished
row j/t running epoch=1 on=a
row machine a incarnation=1
welcome keep [j/t#1] nodes [tvm-er-machine-a]
> report a j/t#1 exit=0
row j/t completed epoch=1 lastEnd=reported result=success
watch j/t completed epoch=1 end=success
verdict accepted
> report a j/t#1 exit=0
verdict accepted
> status j/t
j/t completed epoch=1 lastEnd=reported result=success
