# A node whose machine is known dead is replaced as soon as another machine can have it.
> nodes 1
row machine a incarnation=1
welcome keep [] nodes [tvm-er-machine-a]
> pool p dedicated=1
row pool p resizing 1+0
row mesh nextJob=1 nextReservation=2
row node 1 of p on a
reserve a: node 1 of p
answer p
> granted
row pool p steady 1+0
> gone a dead
# Nothing else is there yet: it keeps its node, for it may start again.
> tick 5
> machine b
row machine b incarnation=1
welcome keep [] nodes [tvm-er-machine-b]
del node/1
row mesh nextJob=1 nextReservation=3
row node 2 of p on b
reserve b: node 2 of p
> granted
# Once it is back, it has none.
> machine a incarnation=2
row machine a incarnation=2
welcome keep [] nodes [tvm-er-machine-a]
# One that is only cut off is waited for.
> machine c
row machine c incarnation=1
welcome keep [] nodes [tvm-er-machine-c]
> gone b
> tick 5
