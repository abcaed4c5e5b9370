# The coordinator itself stood still: nobody was silent (L3).
> nodes 1
row machine a incarnation=1
welcome keep [] nodes [tvm-er-machine-a]
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
> stall 120
> tick 29
> report a j/t#1 exit=0
row j/t completed epoch=1 lastEnd=reported result=success
watch j/t completed epoch=1 end=success
verdict accepted
