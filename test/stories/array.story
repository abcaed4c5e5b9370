# A task array: one row for all its tasks, and a row each from their first claim on.
> nodes 2
row machine a incarnation=1
welcome keep [] nodes [tvm-er-machine-a]
row machine b incarnation=1
welcome keep [] nodes [tvm-er-machine-b]
> job j retries=1 dependencies
row mesh nextJob=2 nextReservation=1
row job j active
answer j
> array j 0-6/2 100 prefix=Frame-
row array j/0
answer 5 Frame-0000 Frame-0100
watch j
offer default: 5
# One is ended before its turn and passed over; its id is taken all the same.
> terminate j/frame-0002
row j/frame-0002 completed epoch=1 lastEnd=revoked result=failure failure=TaskEnded
watch j/Frame-0002 completed epoch=1 end=terminated
answer
> array j 2-3 prefix=frame-
refuse TaskExists
> claim a slots=2
row j/frame-0000 running epoch=1 on=a
row j/frame-0004 running epoch=1 on=a
grant a: j/frame-0000#1 j/frame-0004#1
> report a j/frame-0000#1 exit=0
row j/frame-0000 completed epoch=1 lastEnd=reported result=success
watch j/Frame-0000 completed epoch=1 end=success
verdict accepted
> report a j/frame-0004#1 exit=1
row j/frame-0004 active epoch=1 retries=1 lastEnd=reported
watch j/Frame-0004 active epoch=1 end=failure exit=1
verdict accepted
# What failed with a try left comes first.
> claim a slots=2
row j/frame-0004 running epoch=2 on=a retries=1
row j/frame-0006 running epoch=1 on=a
grant a: j/frame-0004#2 j/frame-0006#1
> counts j
3 active, 0 running, 1 succeeded, 1 failed
# A second array waits for the first as one; its tasks have no rows of their own meanwhile.
> array j 1-2 after=frame-0004+frame-0100
row array j/1
answer 2 0001 0002
watch j
> why j/0002
Task 0002 waits for other tasks.
  frame-0004 is not completed.
  frame-0100 is not completed.
> restart
> hello a j/frame-0004#2 j/frame-0006#1
row machine a incarnation=1
welcome keep [j/frame-0004#2 j/frame-0006#1] nodes [tvm-er-machine-a]
offer default: 1
> report a j/frame-0004#2 exit=0
row j/frame-0004 completed epoch=2 retries=1 lastEnd=reported result=success
watch j/Frame-0004 completed epoch=2 end=success
verdict accepted
> report a j/frame-0006#1 exit=0
row j/frame-0006 completed epoch=1 lastEnd=reported result=success
watch j/Frame-0006 completed epoch=1 end=success
verdict accepted
> claim a slots=3
row j/frame-0100 running epoch=1 on=a
grant a: j/frame-0100#1
> report a j/frame-0100#1 exit=0
row j/frame-0100 completed epoch=1 lastEnd=reported result=success
watch j/Frame-0100 completed epoch=1 end=success
verdict accepted
> claim a slots=3
row j/0001 running epoch=1 on=a
row j/0002 running epoch=1 on=a
grant a: j/0001#1 j/0002#1
> reactivate j/frame-0002
row j/frame-0002 active epoch=1 lastEnd=revoked
watch j/Frame-0002 active epoch=1
answer
> machine b
row machine b incarnation=1
welcome keep [] nodes [tvm-er-machine-b]
> claim b
row j/frame-0002 running epoch=2 on=b
grant b: j/frame-0002#2
> status j/frame-0002
j/frame-0002 running epoch=2 on=b
> start b j/frame-0002#2
watch j
> terminate j
stop a: j/0001#1 (The job was ended (UserTerminate).)
row j/0001 active epoch=1 lastEnd=revoked
stop a: j/0002#1 (The job was ended (UserTerminate).)
row j/0002 active epoch=1 lastEnd=revoked
stop b: j/frame-0002#2 (The job was ended (UserTerminate).)
row j/frame-0002 completed epoch=3 lastEnd=revoked result=failure failure=TaskEnded
watch j/Frame-0002 completed epoch=3 end=terminated
row job j completed reason=UserTerminate
watch j
answer
> counts j
2 active, 0 running, 4 succeeded, 1 failed
> delete-job j
row job j deleting reason=UserTerminate
watch j
purge j
answer
