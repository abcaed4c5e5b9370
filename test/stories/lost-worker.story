# A machine that falls silent keeps a short task for 30 seconds, a longer one for as long as it had run (L7).
> nodes 2
row machine a incarnation=1
welcome keep [] nodes [tvm-er-machine-a]
row machine b incarnation=1
welcome keep [] nodes [tvm-er-machine-b]
> job j
row mesh nextJob=2 nextReservation=1
row job j active
answer j
> submit j short long
row spec j/short
row spec j/long
row roll j from 0: short long
answer short added, long added
watch j
offer default: 2
> claim a slots=2
row j/short running epoch=1 on=a
row j/long running epoch=1 on=a
grant a: j/short#1 j/long#1
> start a j/short#1 j/long#1
watch j
> tick 40
> report a j/short#1 exit=0
row j/short completed epoch=1 lastEnd=reported result=success
watch j/short completed epoch=1 end=success
verdict accepted
> submit j short2
row spec j/short2
row roll j from 2: short2
answer short2 added
watch j
offer default: 1
> claim a
row j/short2 running epoch=1 on=a
grant a: j/short2#1
> start a j/short2#1
watch j
> silence a
> tick 30
> tick 14
row j/short2 active epoch=1 requeues=1 losses=1 lastEnd=lost
watch j/short2 active epoch=1 end=lost
offer default: 1
row j/long active epoch=1 requeues=1 losses=1 lastEnd=lost
watch j/long active epoch=1 end=lost
> claim b slots=2
row j/long running epoch=2 on=b requeues=1 losses=1
row j/short2 running epoch=2 on=b requeues=1 losses=1
grant b: j/long#2 j/short2#2
# It was not dead, but what has been replaced is not wanted any more (L2).
> hello a j/short2#1 j/long#1
row machine a incarnation=1
welcome keep [] nodes [tvm-er-machine-a]
> report a j/short2#1 exit=0
verdict refused
> report b j/short2#2 exit=0
row j/short2 completed epoch=2 requeues=1 losses=1 lastEnd=reported result=success
watch j/short2 completed epoch=2 end=success
verdict accepted
