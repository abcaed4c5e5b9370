# A machine that cannot run tasks at all spends no retry of theirs (C1); after three it is left out for the job.
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
> report a j/t1#1 fault=Unknown
row j/t1 active epoch=1 requeues=1 losses=1 lastEnd=reported failure=Unknown
watch j/t1 active epoch=1 end=lost
verdict accepted
> report a j/t2#1 fault=DiskFull
row j/t2 active epoch=1 requeues=1 losses=1 lastEnd=reported failure=DiskFull
watch j/t2 active epoch=1 end=lost
verdict accepted
> report a j/t3#1 fault=Unknown
row job j active without=a
row j/t3 active epoch=1 requeues=1 losses=1 lastEnd=reported failure=Unknown
watch j/t3 active epoch=1 end=lost
verdict accepted
> claim a slots=3 waitMs=0
grant a: nothing
> why j/t4
Task t4 waits for its turn: 4 tasks are waiting in pool default, and every fitting node is busy.
  a: left out, it could not run tasks (3 times; last: as the machine says)
  b: fits; 0 of 2 slots are taken
> claim b slots=1
row j/t3 running epoch=2 on=b requeues=1 losses=1
grant b: j/t3#2
# The machine says why, where no other could take the task: what fills the only disk fails, what cannot start is tried again,
> gone a dead
> report b j/t3#2 fault=DiskFull
row j/t3 completed epoch=2 requeues=1 losses=1 lastEnd=reported result=failure failure=DiskFull
watch j/t3 completed epoch=2 end=failure
verdict accepted
> claim b slots=1
row j/t2 running epoch=2 on=b requeues=1 losses=1
grant b: j/t2#2
> report b j/t2#2 fault=Unknown
row j/t2 active epoch=2 requeues=2 losses=2 lastEnd=reported failure=Unknown
watch j/t2 active epoch=2 end=lost
verdict accepted
# up to the cap.
> claim b slots=1
row j/t2 running epoch=3 on=b requeues=2 losses=2
grant b: j/t2#3
> report b j/t2#3 fault=Unknown
row j/t2 active epoch=3 requeues=3 losses=3 lastEnd=reported failure=Unknown
watch j/t2 active epoch=3 end=lost
verdict accepted
> claim b slots=1
row j/t2 running epoch=4 on=b requeues=3 losses=3
grant b: j/t2#4
> report b j/t2#4 fault=Unknown
row j/t2 active epoch=4 requeues=4 losses=4 lastEnd=reported failure=Unknown
watch j/t2 active epoch=4 end=lost
verdict accepted
> claim b slots=1
row j/t2 running epoch=5 on=b requeues=4 losses=4
grant b: j/t2#5
> report b j/t2#5 fault=Unknown
row j/t2 active epoch=5 requeues=5 losses=5 lastEnd=reported failure=Unknown
watch j/t2 active epoch=5 end=lost
verdict accepted
> claim b slots=1
row j/t2 running epoch=6 on=b requeues=5 losses=5
grant b: j/t2#6
> report b j/t2#6 fault=Unknown
row j/t2 active epoch=6 requeues=6 losses=6 lastEnd=reported failure=Unknown
watch j/t2 active epoch=6 end=lost
verdict accepted
> claim b slots=1
row j/t2 running epoch=7 on=b requeues=6 losses=6
grant b: j/t2#7
> report b j/t2#7 fault=Unknown
row j/t2 active epoch=7 requeues=7 losses=7 lastEnd=reported failure=Unknown
watch j/t2 active epoch=7 end=lost
verdict accepted
> claim b slots=1
row j/t2 running epoch=8 on=b requeues=7 losses=7
grant b: j/t2#8
> report b j/t2#8 fault=Unknown
row j/t2 active epoch=8 requeues=8 losses=8 lastEnd=reported failure=Unknown
watch j/t2 active epoch=8 end=lost
verdict accepted
> claim b slots=1
row j/t2 running epoch=9 on=b requeues=8 losses=8
grant b: j/t2#9
> report b j/t2#9 fault=Unknown
row j/t2 active epoch=9 requeues=9 losses=9 lastEnd=reported failure=Unknown
watch j/t2 active epoch=9 end=lost
verdict accepted
> claim b slots=1
row j/t2 running epoch=10 on=b requeues=9 losses=9
grant b: j/t2#10
> report b j/t2#10 fault=Unknown
row j/t2 completed epoch=10 requeues=10 losses=10 lastEnd=reported result=failure failure=Unknown
watch j/t2 completed epoch=10 end=failure
verdict accepted
> status j/t2
j/t2 completed epoch=10 requeues=10 losses=10 lastEnd=reported result=failure failure=Unknown
